"""The step `review_features` for task segment: training masks that a decoder of the other photos contradicts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from graft.core.atomic import write_json, write_text
from graft.data.records import printable
from graft.decoders.fit import read_out_of_fold
from graft.imaging.decode import decode
from graft.masks.dataset import MaskDataset
from graft.masks.overlay import drawn, jpeg, shrunk
from graft.params.review_features import ReviewFeaturesParams
from graft.pixel_reports.mask_page import data_uri
from graft.quality.findings import Finding, make_finding
from graft.reports.feature_page import FINDINGS, PAGE, review_html
from graft.reports.finding_view import SIDE, Picture, finding_view
from graft.runs.run_log import Log
from graft.runs.step import Metrics
from graft.tasks.pixels import refuse_others

QUEUE_FILE = "masks.csv"
MOST_SHOWN = 12


def review_masks(dataset: Path, head: Path, review: Path, params: ReviewFeaturesParams, log: Log) -> Metrics:
    """Write the masks to look at, worst first: a wrong mask, or a photo unlike the others."""
    photos = MaskDataset.read(dataset, "segment")
    refuse_others("review_features", params, ("seed",), "segment")
    found = read_out_of_fold(head).sort_values("iou", kind="stable")
    low, high = np.quantile(found["iou"], [0.25, 0.75]) if len(found) else (0.0, 0.0)
    fence = low - 1.5 * (high - low)  # Tukey's rule for outliers
    suspected = found[found["iou"] < fence]
    review.mkdir(parents=True, exist_ok=True)
    found[["path", "iou", "dice"]].to_csv(review / QUEUE_FILE, index=False)
    findings = []
    if len(suspected):
        answers = f"what a decoder of the other photos answers (IoU below {fence:.2f})"
        text = f"{len(suspected)} masks overlap little with {answers}"
        findings.append(make_finding("mask_suspect", "warn", list(suspected["path"]), text))
    pictures = {}
    for path, row, iou in suspected[["path", "row", "iou"]].head(MOST_SHOWN).itertuples(index=False):
        small = shrunk(decode(photos.photos[int(row)], photos.spec.max_pixels), SIDE)
        pictures[path] = picture_of(path, f"IoU {iou:.2f}", drawn(small, photos.mask(int(row))))
    return write_pixel_review(review, len(photos), findings, pictures, log)


def picture_of(path: str, text: str, shown: npt.NDArray[np.uint8]) -> Picture:
    """Return a training photo as a finding shows it."""
    return Picture(printable(str(path)), "photo", "train", text, data_uri(jpeg(shown)))


def write_pixel_review(
    review: Path, photos: int, findings: Sequence[Finding], pictures: Mapping[str, Picture], log: Log
) -> Metrics:
    """Write the findings and their page into the folder, beside the queue; return the step's metrics.

    Args:
        review: the folder, which holds `masks.csv` already.
        photos: how many there are.
        findings: what to look at.
        pictures: by path.
        log: of the run.
    """
    write_json(review / FINDINGS, [finding.as_dict() for finding in findings])
    views = [finding_view(finding, pictures.get) for finding in findings]
    write_text(review / PAGE, review_html(photos, views, shifts=[], labels=QUEUE_FILE))
    log.artifact(review, "review")
    for finding in findings:
        log.metric(f"findings.{finding.kind}", finding.count)
    return {"findings": {finding.kind: finding.count for finding in findings}, "shift": {}}
