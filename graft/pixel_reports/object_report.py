"""The step `evaluate` for task instances: the scores, and the page with photos, truth and answers."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from graft.data.records import printable
from graft.dense.pixel_scores import calibration_error
from graft.detectors.assessment import JudgedObjects, assess_objects
from graft.detectors.detector_bundle import DetectorBundle
from graft.detectors.instance_scores import InstanceEvaluation
from graft.detectors.photo_maps import PhotoMaps
from graft.imaging.decode import decode
from graft.masks.overlay import MISSED, WRONG, colour, jpeg, shrunk
from graft.objects.average_precision import best_overlaps, sort_out
from graft.objects.object_dataset import ObjectDataset
from graft.objects.overlay import with_objects
from graft.params.evaluate import EvaluateParams
from graft.pixel_reports.mask_page import PixelReport, Triple, data_uri, shown
from graft.pixel_reports.pixel_report import (
    SIDE,
    UNIT,
    Figure,
    Remark,
    calibration_figure,
    depth_figure,
    gain_remarks,
    galleries,
    learning_figure,
    write_pixel_report,
)
from graft.reports.svg_charts import Series, line_chart
from graft.runs.run_log import Log
from graft.runs.step import Metrics

RIGHT = (44, 160, 44)
FIFTHS = 5
Floats = npt.NDArray[np.float64]


def evaluate_objects(
    dataset: Path, features: Path, head: Path, model: Path, evaluation: Path, params: EvaluateParams, log: Log
) -> Metrics:
    """Measure the model on the test photos and write the page."""
    photos, store = ObjectDataset.open(dataset), PhotoMaps.read(features)
    bundle = DetectorBundle.load(model)
    found, judged = assess_objects(photos, store, DetectorBundle.load(head), bundle, params)
    report = make_report(photos, bundle, found, judged, pictures=params.explain)
    plain = write_pixel_report(evaluation, found, judged.photos, report, log)
    return {
        name: plain[name]
        for name in ("test", "val", "per_class", "baselines", "gains", "learning", "score", "missed", "spurious")
    }


def make_report(
    photos: ObjectDataset, bundle: DetectorBundle, found: InstanceEvaluation, judged: JudgedObjects, *, pictures: bool
) -> PixelReport:
    """Return what the page shows."""
    score = found.test[found.headline]
    lead = (
        f"Truth; answers of a score of at least {found.score:.2f}; and green where an object was found, pink where "
        "it sees what is not there, blue where it misses."
    )
    pictured = galleries(lead, judged.photos["photo_f1"], partial(_triples, photos, bundle, judged)) if pictures else []
    total = found.found + found.missed
    return PixelReport(
        title="Instance segmentation",
        data=photos.spec.name,
        headline=f"Mask AP {shown(score.value)} on {found.photos['test']} test photos",
        basis=f"{shown(score.low)} to {shown(score.high)} with {100 * found.confidence:.0f} % confidence; of "
        f"{total} objects {found.found} are found and {found.missed} missed, {found.spurious} answers are spurious; "
        f"{len(found.classes)} kinds of object, learnt from {found.photos['train']} photos.",
        remarks=list(_remarks(found, bundle)),
        confidence=found.confidence,
        photos=found.photos,
        test=found.test,
        val=found.val,
        paired=found.paired,
        baselines=found.baselines,
        gains=found.gains,
        class_columns=("Photos", "Objects", "AP", "AP50", "Interval of AP50", "Found", "Missed", "Spurious"),
        classes=[
            (
                row.label,
                at + 1,
                (
                    str(row.photos),
                    str(row.objects),
                    shown(row.ap.value),
                    shown(row.ap50.value),
                    f"{shown(row.ap50.low)} to {shown(row.ap50.high)}",
                    str(row.found),
                    str(row.missed),
                    str(row.spurious),
                ),
            )
            for at, row in enumerate(found.per_class)
        ],
        galleries=pictured,
        figures=list(_figures(photos, bundle, found, judged)),
        made=list(_made(bundle)),
    )


def _remarks(found: InstanceEvaluation, bundle: DetectorBundle) -> Iterator[Remark]:
    yield from gain_remarks(found, "F1 is higher than with")
    error = calibration_error(found.bins)
    yield (
        "good" if error < 0.1 else "caution",
        f"Scores are off by {shown(error)} on average from the part that is right.",
    )
    if not bundle.spec.score_photos:
        yield "caution", f"No validation photos chose the score: answers count from {found.score:.2f} on."
    if not bundle.spec.trained_groups:
        yield "good", "No stage of fine-tuning was kept: the backbone is as it was pretrained."


def _triples(
    photos: ObjectDataset, bundle: DetectorBundle, judged: JudgedObjects, places: Sequence[int]
) -> Iterator[Triple]:
    for at in places:
        row = int(judged.photos["row"].iloc[at])
        small = shrunk(decode(photos.photos[row], photos.spec.max_pixels), SIDE)
        truth, answer = photos.objects(row), bundle.kept(judged.answers[at])
        of = sort_out(truth, answer)
        shades = [RIGHT] * len(of.right) + [WRONG] * len(of.spurious) + [MISSED] * len(of.missed)
        grey = (np.repeat(small.mean(axis=2, keepdims=True), 3, axis=2) * 0.6 + 80).astype(np.uint8)
        shots = (
            ("photo with the truth", with_objects(small, truth, [colour(one.label + 1) for one in truth])),
            ("photo with the answer", with_objects(small, answer, [colour(one.label + 1) for one in answer])),
            ("found, spurious and missed", with_objects(grey, [*of.right, *of.spurious, *of.missed], shades)),
        )
        text = f"{len(of.right)} found, {len(of.missed)} missed, {len(of.spurious)} spurious"
        uris = [(what, data_uri(jpeg(one))) for what, one in shots]
        yield Triple(printable(str(photos.table["path"].iloc[row])), text, uris)


def _figures(
    photos: ObjectDataset, bundle: DetectorBundle, found: InstanceEvaluation, judged: JudgedObjects
) -> Iterator[Figure]:
    points = [(point.photos, point.ap50) for point in found.learning]
    yield from learning_figure(points, learner="heads on frozen maps", metric="Mask AP50", examples="photos")
    sizes, overlap, right = _by_size(photos, found, judged)
    if len(sizes) > 1:
        fifths = [part for part in np.array_split(np.argsort(sizes, kind="stable"), FIFTHS) if len(part)]
        share = Series(
            "found, of a fifth of the objects",
            [float(np.median(sizes[part])) for part in fifths],
            [float(right[part].mean()) for part in fifths],
        )
        chart = line_chart(
            [Series("IoU of an object", sizes.tolist(), overlap.tolist(), kind="points"), share],
            title="IoU by size",
            x_label="side of an object as a part of the photo's",
            y_label="IoU",
            y_range=UNIT,
        )
        text = "Overlap of each object with the best answer at the chosen score; 0 without one."
        yield Figure("IoU by object size.", text, chart)
    yield from depth_figure(bundle.spec.curve)
    text = "Part of the answers that is right at an overlap of 0.5, by their score."
    yield from calibration_figure(found.bins, of="answers", name="Calibration of scores.", sure="score", text=text)


def _by_size(
    photos: ObjectDataset, found: InstanceEvaluation, judged: JudgedObjects
) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Return of each of the test photos' objects its side, its overlap with the best answer, whether it was found."""
    sizes: list[float] = []
    overlap: list[float] = []
    right: list[bool] = []
    for row, answers in zip(judged.photos["row"], judged.answers, strict=True):
        truth = [one for one in photos.objects(int(row)) if not one.crowd]
        kept = [one for one in answers if one.score >= found.score]
        missed = {id(one) for one in sort_out(truth, kept).missed}
        sizes += [float(np.sqrt(one.code.area / (one.code.height * one.code.width))) for one in truth]
        overlap += best_overlaps(truth, kept).tolist()
        right += [id(one) not in missed for one in truth]
    return np.array(sizes), np.array(overlap), np.array(right, dtype=np.bool_)


def _made(bundle: DetectorBundle) -> Iterator[tuple[str, str]]:
    spec = bundle.spec
    yield "Backbone", f"{spec.backbone.architecture}, {spec.backbone.weights.source}, up to {spec.backbone.depth}"
    yield "Maps", ", ".join(spec.levels)
    size = spec.backbone.transform.size
    yield (
        "Photos",
        f"whole, the short side {size} pixels; masks at the photo's own size; mirrored at random in training",
    )
    parameters = sum(parameter.numel() for parameter in bundle.network.heads.parameters())
    yield (
        "Heads",
        f"Mask R-CNN with a feature pyramid, {parameters:,} parameters, {spec.epochs} epochs, one photo a step",
    )
    chosen = f"where F1 of {spec.score_photos} validation photos is highest" if spec.score_photos else "the default"
    yield "Score", f"answers count from {spec.score:.3f} on: {chosen}"
    for stage in spec.stages:
        yield f"Stage {stage.name}", stage.reason
    if spec.untried:
        yield "Not tried", spec.untried
    yield (
        "Export",
        "none: proposals have no fixed number, which torch.export and ONNX need; the registered model runs PyTorch",
    )
