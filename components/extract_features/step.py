"""The step `extract_features`: every image once through the frozen backbone, keeping every group's features.

If a cluster splits the images among workers, each of them runs `extract_shard` on its part.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from graft.backbones.backbone_record import record_backbone
from graft.backbones.incremental import extract_into
from graft.backbones.shards import ShardParams, extract_part, join_parts
from graft.data.dataset import ImageDataset
from graft.params.extract_features import ExtractFeaturesParams
from graft.runs.run_log import Log
from graft.runs.step import In, Ins, Metrics, Out, step
from graft.tasks.pixels import pixel_task

if TYPE_CHECKING:
    from graft.heads.backbone_selection import Candidate

REGISTERED = "models:/"
Params = TypeVar("Params", bound=ExtractFeaturesParams)


@step
def extract_features(dataset: In, features: Out, params: ExtractFeaturesParams, log: Log, parts: Ins = ()) -> Metrics:
    """Run the frozen backbone once over every image; or join the parts, if workers have done that."""
    task = pixel_task(dataset)
    if task is not None and task.kind == "segment":
        from graft.decoders.extract import extract  # late: a wrong parameter should fail before the import of torch

        return extract(dataset, features, params, log)
    if task is not None:
        from graft.detectors.extract import extract as extract_photos

        return extract_photos(dataset, features, params, log)
    images = ImageDataset.read(dataset)
    candidates: list[Candidate] = []
    if parts:
        extracted = join_parts(features, images, parts)
    else:
        with _fetched(params) as found:
            if found.backbone == "auto":
                found, candidates = _chosen(images, found, log)
            extracted = extract_into(features, images, found)
    spec = extracted.store.spec
    return {
        **record_backbone(spec.backbone_content, spec.fingerprint, log),
        "channels": images.spec.channels,
        "backend": extracted.backend,
        "images": len(extracted.store),
        "new_images": extracted.new,
        "taps": spec.taps,
        "images_per_second": round(extracted.new / extracted.seconds, 1) if extracted.new else 0.0,
        "candidates": [asdict(candidate) for candidate in candidates],
    }


@contextmanager
def _fetched(params: Params) -> Iterator[Params]:
    """Yield the parameters with a registered model's files in place of its address, for as long as they are needed."""
    if not params.weights.startswith(REGISTERED):
        yield params
        return
    from graft.runs.registered_files import download  # late: it imports MLflow

    with tempfile.TemporaryDirectory() as work:
        name = params.weights.removeprefix(REGISTERED).replace("/", "-")
        files = download(params.weights, Path(tempfile.mkdtemp(dir=work)))
        folder = files.rename(Path(work) / name)  # it names the model in the record
        yield params.model_copy(update={"weights": str(folder)})


def _chosen(
    images: ImageDataset, params: ExtractFeaturesParams, log: Log
) -> "tuple[ExtractFeaturesParams, list[Candidate]]":
    from graft.heads.backbone_selection import choose_backbone  # late: it imports the code that fits probes

    params, candidates = choose_backbone(images, params)
    for candidate in candidates:
        log.metric(f"candidate.{candidate.backbone}.cv_accuracy", candidate.accuracy)
        log.metric(f"candidate.{candidate.backbone}.behind", candidate.behind)
        print(
            f"extract_features: {candidate.backbone}: cross-validated accuracy {candidate.accuracy:.3f} "
            f"({candidate.low:.3f} to {candidate.high:.3f}), log loss {candidate.log_loss:.3f} at {candidate.tap}, "
            f"{candidate.describe()}; LogME {candidate.logme:.3f}; {candidate.operations / 1e9:.2f} GFLOP per image",
            file=sys.stderr,
            flush=True,
        )
    log.params({"decided": {"backbone": params.backbone, "weights": params.weights}})
    return params, candidates


@step
def extract_shard(dataset: In, part: Out, params: ShardParams, log: Log) -> Metrics:
    """Run the frozen backbone once over every image of one part."""
    with _fetched(params) as found:
        spec = extract_part(part, ImageDataset.read(dataset), found)
    log.tag("shard", f"{spec.shard} of {spec.shards}")
    return spec.model_dump(mode="json", include={"shard", "shards", "images", "backend", "new"})


if __name__ == "__main__":
    extract_features.main()
