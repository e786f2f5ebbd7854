"""The step `evaluate` for task instances: the scores, and the page with photos, truth and answers."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from graft.core.atomic import write_text
from graft.data.records import printable
from graft.decoders.mask_scores import calibration_error, write_scores
from graft.detectors.assessment import JudgedObjects, assess_objects
from graft.detectors.detector_bundle import DetectorBundle
from graft.detectors.instance_scores import InstanceEvaluation
from graft.detectors.photo_maps import PhotoMaps
from graft.imaging.decode import decode
from graft.masks.overlay import MISSED, WRONG, colour, jpeg, shrunk
from graft.objects.average_precision import sort_out
from graft.objects.object_dataset import ObjectDataset
from graft.objects.overlay import with_objects
from graft.params.evaluate import EvaluateParams
from graft.reports.mask_page import Gallery, PixelReport, Triple, data_uri, render, shown
from graft.reports.mask_report import OTHERS, REPORT_FILE, SIDE, WORST
from graft.reports.svg_charts import Series, line_chart
from graft.runs.run_log import Log
from graft.runs.step import Metrics

RIGHT = (44, 160, 44)


def evaluate_objects(
    dataset: Path, features: Path, head: Path, model: Path, evaluation: Path, params: EvaluateParams, log: Log
) -> Metrics:
    """Measure the model on the test photos and write the page."""
    photos, store = ObjectDataset.open(dataset), PhotoMaps.read(features)
    bundle = DetectorBundle.load(model)
    found, judged = assess_objects(photos, store, DetectorBundle.load(head), bundle, params)
    evaluation.mkdir(parents=True, exist_ok=True)
    write_scores(evaluation, found, judged.photos)
    report = make_report(photos, bundle, found, judged, pictures=params.explain)
    write_text(evaluation / REPORT_FILE, render(report))
    numbers = {f"test_{name}": score.value for name, score in found.test.items() if score.value is not None}
    for name, value in numbers.items():
        log.metric(name, value)
    log.summary(numbers)
    log.artifact(evaluation)
    plain = found.model_dump(mode="json")
    return {
        name: plain[name]
        for name in ("test", "val", "per_class", "baselines", "gains", "learning", "score", "missed", "spurious")
    }


def make_report(
    photos: ObjectDataset, bundle: DetectorBundle, found: InstanceEvaluation, judged: JudgedObjects, *, pictures: bool
) -> PixelReport:
    """Return what the page shows."""
    score = found.test[found.headline]
    order = judged.photos["photo_f1"].to_numpy().argsort(kind="stable").tolist()
    worst, rest = order[:WORST], order[WORST:]
    others = [rest[at] for at in np.unique(np.linspace(0, len(rest) - 1, OTHERS).astype(int))] if rest else []
    galleries = []
    if pictures:
        lead = (
            f"Truth; answers of a score of at least {found.score:.2f}; and green where an object was found, pink where "
            "it sees what is not there, blue where it misses."
        )
        galleries = [
            Gallery("worst", f"The {len(worst)} worst", lead, list(_triples(photos, bundle, judged, worst))),
            Gallery("others", "Others, from worse to better", lead, list(_triples(photos, bundle, judged, others))),
        ]
    total = found.found + found.missed
    return PixelReport(
        title="Instance segmentation",
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
        galleries=galleries,
        figures=list(_figures(photos, found, judged)),
        made=list(_made(bundle)),
    )


def _remarks(found: InstanceEvaluation, bundle: DetectorBundle) -> Iterator[tuple[str, str]]:
    for name, gain in found.gains.items():
        if gain.low is not None and gain.low > 0:
            yield (
                "good",
                f"F1 is higher than with {name} by {shown(gain.value)} ({shown(gain.low)} to {shown(gain.high)}).",
            )
        else:
            yield "caution", f"Not shown to be better than {name} ({shown(gain.low)} to {shown(gain.high)})."
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


def _figures(photos: ObjectDataset, found: InstanceEvaluation, judged: JudgedObjects) -> Iterator[tuple[str, str, str]]:
    if len(found.learning) > 1:
        x = [float(point.photos) for point in found.learning]
        low, y, high = (
            [getattr(point.ap50, name) or 0.0 for point in found.learning] for name in ("low", "value", "high")
        )
        chart = line_chart(
            [Series("heads on frozen maps", x, y, low, high)],
            title="Learning curve",
            x_label="training photos",
            y_label="mask AP50",
        )
        yield "Learning curve.", "Mask AP50 on the test photos by number of training photos.", chart
    sizes, parts = _found_by_size(photos, found, judged)
    if len(sizes) > 1:
        chart = line_chart(
            [Series("a fifth of the objects", sizes, parts)],
            title="Found by size",
            x_label="side of an object as a part of the photo's",
            y_label="found",
            y_range=(0.0, 1.0),
        )
        yield (
            "Found by object size.",
            "Part of the objects that is found at the chosen score, from small to large.",
            chart,
        )
    if found.bins:
        chart = line_chart(
            [Series("answers", [one.confidence for one in found.bins], [one.accuracy for one in found.bins])],
            title="Calibration",
            x_label="score",
            y_label="right",
            x_range=(0.0, 1.0),
            y_range=(0.0, 1.0),
            ideal=True,
        )
        yield "Calibration of scores.", "Part of the answers that is right at an overlap of 0.5, by their score.", chart


def _found_by_size(
    photos: ObjectDataset, found: InstanceEvaluation, judged: JudgedObjects
) -> tuple[list[float], list[float]]:
    """Return the typical size and the part found of each fifth of the test photos' objects, from small to large."""
    sizes: list[float] = []
    seen: list[bool] = []
    for row, answers in zip(judged.photos["row"], judged.answers, strict=True):
        truth = [one for one in photos.objects(int(row)) if not one.crowd]
        missed = {id(one) for one in sort_out(truth, [one for one in answers if one.score >= found.score]).missed}
        sizes += [float(np.sqrt(one.code.area / (one.code.height * one.code.width))) for one in truth]
        seen += [id(one) not in missed for one in truth]
    order = np.argsort(sizes, kind="stable")
    fifths = [part for part in np.array_split(order, 5) if len(part)]
    return [float(np.median(np.array(sizes)[part])) for part in fifths], [
        float(np.array(seen)[part].mean()) for part in fifths
    ]


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
