"""The step `evaluate` for task segment: the scores, and the page with photos, truth and answers."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from graft.core.atomic import write_text
from graft.data.records import printable
from graft.decoders.assessment import Judged, assess_masks, truth_of
from graft.decoders.dense_maps import MapStore
from graft.decoders.mask_bundle import MaskBundle
from graft.decoders.mask_scores import MaskEvaluation, calibration_error, write_scores
from graft.imaging.decode import decode
from graft.masks.dataset import MaskDataset
from graft.masks.overlay import drawn, errors, jpeg, shrunk
from graft.params.evaluate import EvaluateParams
from graft.reports.mask_page import Gallery, PixelReport, Triple, data_uri, render, shown
from graft.reports.svg_charts import Series, line_chart
from graft.runs.run_log import Log
from graft.runs.step import Metrics

REPORT_FILE = "report.html"
WORST, OTHERS, SIDE = 10, 8, 300
Remark = tuple[str, str]


def evaluate_masks(
    dataset: Path, features: Path, head: Path, model: Path, evaluation: Path, params: EvaluateParams, log: Log
) -> Metrics:
    """Measure the model on the test photos and write the page."""
    photos, store = MaskDataset.read(dataset, "segment"), MapStore.read(features)
    bundle = MaskBundle.load(model)
    found, judged = assess_masks(photos, store, MaskBundle.load(head), bundle, params)
    evaluation.mkdir(parents=True, exist_ok=True)
    write_scores(evaluation, found, judged.photos)
    report = make_report(photos, bundle, found, judged, pictures=params.explain)
    write_text(evaluation / REPORT_FILE, render(report))
    scores = {f"test_{name}": score.value for name, score in found.test.items() if score.value is not None}
    for name, value in scores.items():
        log.metric(name, value)
    log.summary(scores)
    log.artifact(evaluation)
    plain = found.model_dump(mode="json")
    return {name: plain[name] for name in ("test", "val", "per_class", "baselines", "gains", "learning")}


def make_report(
    photos: MaskDataset, bundle: MaskBundle, found: MaskEvaluation, judged: Judged, *, pictures: bool
) -> PixelReport:
    """Return what the page shows."""
    score = found.test[found.headline]
    order = judged.photos.sort_values("mean_iou", kind="stable").reset_index(drop=True)
    worst = order["row"].head(WORST).tolist()
    rest = order["row"].iloc[WORST:].to_numpy()
    others = rest[np.unique(np.linspace(0, len(rest) - 1, OTHERS).astype(int))].tolist() if len(rest) else []
    of = dict(zip(judged.photos["row"], judged.photos["mean_iou"], strict=True))
    galleries = []
    if pictures:
        lead = "Truth, answer, and an error map: pink where it sees what is not there, blue where it misses."
        galleries = [
            Gallery("worst", f"The {len(worst)} worst", lead, list(_triples(photos, bundle, worst, of))),
            Gallery("others", "Others, from worse to better", lead, list(_triples(photos, bundle, others, of))),
        ]
    columns = ("Photos", "IoU", "Interval", "Dice", "IoU of all pixels")
    return PixelReport(
        title="Segmentation",
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
        galleries=galleries,
        figures=list(_figures(found, bundle, judged)),
        made=list(_made(bundle)),
    )


def _remarks(found: MaskEvaluation, bundle: MaskBundle) -> Iterator[Remark]:
    for name, gain in found.gains.items():
        if gain.low is not None and gain.low > 0:
            yield "good", f"Better than {name} by {shown(gain.value)} ({shown(gain.low)} to {shown(gain.high)})."
        else:
            yield "caution", f"Not shown to be better than {name} ({shown(gain.low)} to {shown(gain.high)})."
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


def _triples(
    photos: MaskDataset, bundle: MaskBundle, rows: Sequence[int], scores: dict[int, float]
) -> Iterator[Triple]:
    answers = bundle.answers((photos.photos[row] for row in rows), "evaluate", len(rows))
    for row, got in zip(rows, answers, strict=True):
        small = shrunk(decode(photos.photos[row], photos.spec.max_pixels), SIDE)
        truth = truth_of(photos, row)
        shots = (
            ("photo with the truth", drawn(small, truth)),
            ("photo with the answer", drawn(small, got.mask)),
            ("errors", errors(small, truth, got.mask)),
        )
        text = f"IoU {scores[row]:.3f}, predicted {got.predicted_iou:.3f}"
        yield Triple(
            printable(str(photos.table["path"].iloc[row])), text, [(what, data_uri(jpeg(one))) for what, one in shots]
        )


def _figures(found: MaskEvaluation, bundle: MaskBundle, judged: Judged) -> Iterator[tuple[str, str, str]]:
    if len(found.learning) > 1:
        x = [float(point.photos) for point in found.learning]
        low, y, high = (
            [getattr(point.mean_iou, name) or 0.0 for point in found.learning] for name in ("low", "value", "high")
        )
        chart = line_chart(
            [Series("decoder on frozen maps", x, y, low, high)],
            title="Learning curve",
            x_label="training masks",
            y_label="mean IoU",
        )
        yield "Learning curve.", "Mean IoU on the test photos by number of training masks.", chart
    share, iou = judged.photos["truth_share"].tolist(), judged.photos["mean_iou"].tolist()
    chart = line_chart(
        [Series("a test photo", share, iou, kind="points")],
        title="IoU by size",
        x_label="share of the photo that is object",
        y_label="IoU",
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
    )
    yield "IoU by object size.", "Small objects have few pixels: an outline that is off by one costs more.", chart
    curve = bundle.spec.curve
    if len(curve) > 1:
        chart = line_chart(
            [Series("linear probes", [float(at) for at in range(len(curve))], [point.accuracy for point in curve])],
            title="Maps",
            x_label="coarsest map",
            y_label="pixels right",
            x_names=[point.tap for point in curve],
        )
        yield "Depth.", "Held-out pixels that a linear probe gets right, with all maps up to this one.", chart
    if found.bins:
        chart = line_chart(
            [Series("pixels", [one.confidence for one in found.bins], [one.accuracy for one in found.bins])],
            title="Calibration",
            x_label="confidence",
            y_label="right",
            x_range=(0.0, 1.0),
            y_range=(0.0, 1.0),
            ideal=True,
        )
        yield "Calibration of pixels.", "Part of the pixels that is right, by their confidence.", chart


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
