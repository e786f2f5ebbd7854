"""The step `review_features` for task instances: training photos that the model which learnt them contradicts."""

from pathlib import Path

import pandas as pd

from graft.detectors.assessment import judge
from graft.detectors.detector_bundle import DetectorBundle
from graft.detectors.fit import cached_answers
from graft.detectors.photo_maps import PhotoMaps
from graft.imaging.decode import decode
from graft.masks.overlay import shrunk
from graft.objects.object_dataset import ObjectDataset
from graft.objects.overlay import with_objects
from graft.params.review_features import ReviewFeaturesParams
from graft.pixel_reports.mask_review import MOST_SHOWN, QUEUE_FILE, picture_of, write_pixel_review
from graft.quality.findings import make_finding
from graft.reports.finding_view import SIDE
from graft.runs.run_log import Log
from graft.runs.step import Metrics
from graft.tasks.pixels import refuse_others

SUSPECT = 0.5
"""F1 below which a photo that the model has learnt from is suspect."""


def review_objects(
    dataset: Path, features: Path, head: Path, review: Path, params: ReviewFeaturesParams, log: Log
) -> Metrics:
    """Write the training photos, worst first: objects that are not outlined, or outlined as another kind."""
    photos, store, bundle = ObjectDataset.open(dataset), PhotoMaps.read(features), DetectorBundle.load(head)
    refuse_others("review_features", params, ("seed",), "instances")
    rows = photos.rows("train")
    levels = [at for at, level in enumerate(store.spec.levels) if level.group in bundle.spec.levels]
    answers = cached_answers(store, bundle.network.heads, levels, rows)
    table = judge(photos, rows, answers, bundle.spec.score).photos.sort_values("photo_f1", kind="stable")
    review.mkdir(parents=True, exist_ok=True)
    table[["path", "photo_f1", "objects", "found", "missed", "spurious"]].to_csv(review / QUEUE_FILE, index=False)
    suspected: pd.DataFrame = table[table["photo_f1"] < SUSPECT]
    findings = []
    if len(suspected):
        text = f"{len(suspected)} photos whose objects are not what the model that learnt from them answers"
        findings.append(make_finding("mask_suspect", "warn", list(suspected["path"]), text))
    pictures = {}
    for path, row, f1 in suspected[["path", "row", "photo_f1"]].head(MOST_SHOWN).itertuples(index=False):
        small = shrunk(decode(photos.photos[int(row)], photos.spec.max_pixels), SIDE)
        pictures[path] = picture_of(path, f"F1 {f1:.2f}", with_objects(small, photos.objects(int(row))))
    return write_pixel_review(review, len(photos), findings, pictures, log)
