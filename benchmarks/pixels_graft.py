"""Graft on photos with masks, for `benchmarks.pixels`: `python -m benchmarks.pixels_graft KIND DATASET WORK`."""

import sys
from pathlib import Path

from benchmarks.pixel_answers import Cost, tell, write_logits, write_objects
from components.extract_features.step import extract_features
from components.train_head.step import train_head
from graft.decoders.mask_bundle import MaskBundle
from graft.detectors.detector_bundle import DetectorBundle
from graft.masks.dataset import MaskDataset
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.train_head import TrainHeadParams
from graft.runs.run_log import SilentLog


def main(kind: str, dataset: Path, work: Path) -> None:
    """Extract, learn, and answer for the test photos."""
    data = MaskDataset.read(dataset, "segment" if kind == "segment" else "instances")
    cost = Cost()
    extract_features(dataset, work / "features", ExtractFeaturesParams(), SilentLog())
    found = train_head(work / "features", work / "head", TrainHeadParams(), SilentLog())
    learnt = cost.row(f"Graft, frozen maps, {found['epochs']} epochs", work, parameters=found["parameters"])
    rows = data.rows("test")
    photos = (data.photos[int(row)] for row in rows)
    if kind == "segment":
        logits = MaskBundle.load(work / "head").logits(photos, "test", len(rows))
        answers = write_logits(work / "graft.npy", (one for one, _ in logits))
    else:
        answers = write_objects(work / "graft.json", DetectorBundle.load(work / "head").answers(photos))
    tell([{**learnt, "answers": str(answers), "frozen": True}])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
