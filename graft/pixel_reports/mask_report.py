"""The step `evaluate` for task segment: the scores, and the page with photos, truth and answers."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from graft.data.records import printable
from graft.decoders.assessment import Judged, assess_masks, truth_of
from graft.decoders.dense_maps import MapStore
from graft.decoders.mask_bundle import MaskBundle
from graft.decoders.mask_scores import MaskEvaluation
from graft.dense.pixel_scores import calibration_error
from graft.imaging.decode import decode
from graft.masks.dataset import MaskDataset
from graft.masks.overlay import drawn, errors, jpeg, shrunk
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


def evaluate_masks(
    dataset: Path, features: Path, head: Path, model: Path, evaluation: Path, params: EvaluateParams, log: Log
) -> Metrics:
    """Measure the model on the test photos and write the page."""
    photos, store = MaskDataset.read(dataset, "segment"), MapStore.read(features)
    bundle = MaskBundle.load(model)
    found, judged = assess_masks(photos, store, MaskBundle.load(head), bundle, params)
    report = make_report(photos, bundle, found, judged, pictures=params.explain)
    plain = write_pixel_report(evaluation, found, judged.photos, report, log)
    return {name: plain[name] for name in ("test", "val", "per_class", "baselines", "gains", "learning")}


def make_report(
    photos: MaskDataset, bundle: MaskBundle, found: MaskEvaluation, judged: Judged, *, pictures: bool
) -> PixelReport:
    """Return what the page shows."""
    score = found.test[found.headline]
    lead = "Truth, answer, and an error map: pink where it sees what is not there, blue where it misses."
    pictured = galleries(lead, judged.photos["mean_iou"], partial(_triples, photos, bundle, judged)) if pictures else []
    columns = ("Photos", "IoU", "Interval", "Dice", "IoU of all pixels")
    return PixelReport(
        title="Segmentation",
        data=photos.spec.name,
        headline=f"Mean IoU {shown(score.value)} on {found.photos['test']} test photos",
        basis=f"{shown(score.low)} to {shown(score.high)} with {100 * found.confidence:.0f} % confidence; "
        f"{len(found.classes)} classes, learnt from {found.photos['train']} photos.",
        remarks=list(_remarks(found, bundle)),
        confidence=found.confidence,
        photos=found.photos,
        test=found.test,
        val=found.val,
        paired=found.paired,
        baselines=found.baselines,
        gains=found.gains,
        class_columns=columns,
        classes=[
            (
                row.label,
                at,
                (
                    str(row.photos),
                    shown(row.iou.value),
                    f"{shown(row.iou.low)} to {shown(row.iou.high)}",
                    shown(row.dice.value),
                    shown(row.pooled_iou),
                ),
            )
            for at, row in enumerate(found.per_class)
        ],
        galleries=pictured,
        figures=list(_figures(found, bundle, judged)),
        made=list(_made(bundle)),
    )


def _remarks(found: MaskEvaluation, bundle: MaskBundle) -> Iterator[Remark]:
    yield from gain_remarks(found, "Better than")
    error = calibration_error(found.bins)
    yield "good" if error < 0.05 else "caution", f"Pixel confidence is off by {shown(error)} on average."
    if found.predicted_iou_rank is not None and found.kept_iou is not None:
        useful = found.predicted_iou_rank > 0.4
        yield (
            "good" if useful else "caution",
            f"The predicted IoU ranks photos with a correlation of {shown(found.predicted_iou_rank)}; without the "
            f"tenth that it trusts least, mean IoU is {shown(found.kept_iou)}.",
        )
    if not bundle.spec.trained_groups:
        yield "good", "No stage of fine-tuning was kept: the backbone is as it was pretrained."


def _triples(photos: MaskDataset, bundle: MaskBundle, judged: Judged, places: Sequence[int]) -> Iterator[Triple]:
    chosen = judged.photos.iloc[list(places)]
    rows = chosen["row"].tolist()
    answers = bundle.answers((photos.photos[row] for row in rows), "evaluate", len(rows))
    for row, path, iou, got in zip(rows, chosen["path"], chosen["mean_iou"], answers, strict=True):
        small = shrunk(decode(photos.photos[row], photos.spec.max_pixels), SIDE)
        truth = truth_of(photos, row)
        shots = (
            ("photo with the truth", drawn(small, truth)),
            ("photo with the answer", drawn(small, got.mask)),
            ("errors", errors(small, truth, got.mask)),
        )
        text = f"IoU {iou:.3f}, predicted {got.predicted_iou:.3f}"
        yield Triple(printable(str(path)), text, [(what, data_uri(jpeg(one))) for what, one in shots])


def _figures(found: MaskEvaluation, bundle: MaskBundle, judged: Judged) -> Iterator[Figure]:
    points = [(point.photos, point.mean_iou) for point in found.learning]
    yield from learning_figure(points, learner="decoder on frozen maps", metric="Mean IoU", examples="masks")
    share, iou = judged.photos["truth_share"].tolist(), judged.photos["mean_iou"].tolist()
    chart = line_chart(
        [Series("a test photo", share, iou, kind="points")],
        title="IoU by size",
        x_label="share of the photo that is object",
        y_label="IoU",
        x_range=UNIT,
        y_range=UNIT,
    )
    yield Figure("IoU by object size.", "Small objects have few pixels: an outline off by one costs more.", chart)
    yield from depth_figure(bundle.spec.curve)
    text = "Part of the pixels that is right, by their confidence."
    yield from calibration_figure(found.bins, of="pixels", name="Calibration of pixels.", sure="confidence", text=text)


def _made(bundle: MaskBundle) -> Iterator[tuple[str, str]]:
    spec = bundle.spec
    yield "Backbone", f"{spec.backbone.architecture}, {spec.backbone.weights.source}, up to {spec.backbone.depth}"
    yield "Maps", ", ".join(spec.levels)
    size = spec.backbone.transform.size
    yield "Photos", f"whole, in a square of {size} pixels; answers at the photo's own size; mirrored in training stages"
    parameters = sum(parameter.numel() for parameter in bundle.network.decoder.parameters())
    yield "Decoder", f"feature pyramid of {parameters:,} parameters, {spec.epochs} epochs"
    value, low, high = spec.cv_iou
    yield (
        "Cross-validated",
        f"mean IoU {shown(value)} ({shown(low)} to {shown(high)}) on training photos it had not seen",
    )
    for stage in spec.stages:
        yield f"Stage {stage.name}", stage.reason
    if spec.untried:
        yield "Not tried", spec.untried
    yield "Temperature", f"{spec.temperature:.3f}"
