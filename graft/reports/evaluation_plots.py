"""Which figures an evaluation has, by name: drawn for the page, for files and as tables for other tools."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.evaluation.schema import Estimate, Evaluation, LearningScore
from graft.reports.svg_charts import COLOURS, MOST_POINTS, Series, bars, chart, heatmap, whiskers
from graft.stats.confidence_intervals import Interval
from graft.stats.curves import confusion_order, precision_recall, reliability, roc
from graft.stats.metrics import Floats, Targets, Values, predictions

MOST_CLASSES_IN_HEATMAP = 40
CONFIDENCE_STEPS = 10
CURVE_POINTS = 200
Indices = npt.NDArray[np.int64]


def figures(
    found: Evaluation,
    targets: Targets,
    probabilities: Floats,
    curve: Sequence[Mapping[str, Any]],
    stages: Sequence[Mapping[str, Any]],
    raw: Floats | None = None,
) -> dict[str, str]:
    """Draw everything that can be drawn.

    Args:
        found: the evaluation.
        targets: of the test images, int64 (n,).
        probabilities: of the model on them (n, C).
        curve: the head's reuse-depth curve: `{"tap", "accuracy", "low", "high"}` each.
        stages: of fine-tuning, as `StageRecord` has them.
        raw: probabilities before temperature scaling (n, C), to compare.
    """
    drawn = {"comparison": _comparison(found)}
    if found.task.exclusive:
        drawn |= _of_classes(found, targets, probabilities, raw)
    if len(curve) > 1:
        drawn["reuse_depth"] = _reuse_depth(curve)
    if stages:
        drawn["stages"] = _stages(stages)
    if found.learning and len(found.learning.points) > 1:
        drawn["learning"] = _learning(found.learning)
    return drawn


def _of_classes(found: Evaluation, targets: Targets, probabilities: Floats, raw: Floats | None) -> dict[str, str]:
    """Draw what only a task with one right label has."""
    drawn = {
        "reliability": _reliability(targets, probabilities, raw, found.confidence),
        "confidence": _confidence(probabilities),
        "roc": _roc(found, targets, probabilities),
        "precision_recall": _precision_recall(found, targets, probabilities),
    }
    if len(found.classes) <= MOST_CLASSES_IN_HEATMAP:
        drawn["confusion"] = _confusion(found)
    return drawn


def tables(found: Evaluation, targets: Targets, probabilities: Floats) -> dict[str, pd.DataFrame]:
    """Return what tools that draw for themselves read of a task with one right label, by name."""
    return {
        "confusion": confusion_table(targets, predictions(probabilities), found.classes),
        "roc": roc_table(found, targets, probabilities),
        "precision_recall": precision_recall_table(found, targets, probabilities),
        "reliability": reliability_table(targets, probabilities),
    }


def confusion_table(targets: Targets, predicted: Targets, classes: Sequence[str]) -> pd.DataFrame:
    """Return one row per image, as `dvc plots` wants a confusion matrix: columns `actual` and `predicted`."""
    names = np.asarray(classes, dtype=object)
    return pd.DataFrame({"actual": names[targets], "predicted": names[predicted]})


def roc_table(found: Evaluation, targets: Targets, probabilities: Floats) -> pd.DataFrame:
    """Return the ROC curves, thinned: columns `label`, `false_positive_rate`, `true_positive_rate`, `threshold`."""
    rows = []
    for index in _ranked_classes(found, targets):
        curve = roc(targets == index, probabilities[:, index])
        for at in _thinned(len(curve.thresholds)):
            threshold = min(float(curve.thresholds[at]), 1.0)
            rows.append((found.classes[index], curve[0][at], curve[1][at], threshold))
    return pd.DataFrame(rows, columns=["label", "false_positive_rate", "true_positive_rate", "threshold"])


def precision_recall_table(found: Evaluation, targets: Targets, probabilities: Floats) -> pd.DataFrame:
    """Return the precision-recall curves, thinned: columns `label`, `recall`, `precision`, `threshold`."""
    rows = []
    for index in _ranked_classes(found, targets):
        curve = precision_recall(targets == index, probabilities[:, index])
        for at in _thinned(len(curve.thresholds)):
            rows.append((found.classes[index], curve.recall[at], curve.precision[at], float(curve.thresholds[at])))
    return pd.DataFrame(rows, columns=["label", "recall", "precision", "threshold"])


def reliability_table(targets: Targets, probabilities: Floats) -> pd.DataFrame:
    """Return the reliability diagram: columns `confidence`, `accuracy`, `low`, `high`, `images`."""
    confidence, right, images = reliability(targets, probabilities)
    columns = {"accuracy": [r.value for r in right], "low": [r.low for r in right], "high": [r.high for r in right]}
    return pd.DataFrame({"confidence": confidence, **columns, "images": images})


def _comparison(found: Evaluation) -> str:
    rows = [("most frequent class", found.baseline["majority"]["accuracy"], 8)]
    if random := found.baseline.get("random_init"):
        rows.append(("without pretraining", random["accuracy"], 3))
    rows += [("head on frozen features", found.head["accuracy"], 2), ("this model", found.test["accuracy"], 1)]
    shown = [(name, _interval(estimate), colour) for name, estimate, colour in rows]
    return whiskers(shown, title="Test accuracy of the model and its alternatives", x_label="accuracy", percent=True)


def _reliability(targets: Targets, probabilities: Floats, raw: Floats | None, level: float) -> str:
    lines = []
    if raw is not None and not np.allclose(raw, probabilities, atol=5e-3):
        confidence, right, _ = reliability(targets, raw, level)
        lines.append(Series("before scaling", confidence, [r.value for r in right], kind="dashed", colour=8))
    confidence, right, _ = reliability(targets, probabilities, level)
    low, high = [r.low for r in right], [r.high for r in right]
    lines.append(Series("answers that are right", confidence, [r.value for r in right], low, high, "points", 1))
    return chart(
        lines,
        title="Part of the answers that is right, by their probability",
        x_label="probability of the answer",
        y_label="right",
        x_range=(0, 1),
        y_range=(0, 1),
        ideal=True,
        percent=True,
    )


def _confidence(probabilities: Floats) -> str:
    counts, edges = np.histogram(probabilities.max(axis=1), bins=CONFIDENCE_STEPS, range=(0, 1))
    first = int(np.flatnonzero(counts)[0])
    rows = [
        (f"{100 * edges[i]:.0f} to {100 * edges[i + 1]:.0f} %", float(counts[i]))
        for i in range(first, CONFIDENCE_STEPS)
    ]
    return bars(rows[::-1], title="Number of test images by the probability of the answer", x_label="test images")


def _roc(found: Evaluation, targets: Targets, probabilities: Floats) -> str:
    lines = []
    for index in _ranked_classes(found, targets):
        curve = roc(targets == index, probabilities[:, index])
        lines.append(_line(found.classes[index], curve.false_positive_rate, curve.true_positive_rate))
    return chart(
        lines,
        title="ROC curve",
        x_label="part of the others taken for it",
        y_label="found",
        x_range=(0, 1),
        y_range=(0, 1),
        ideal=True,
    )


def _precision_recall(found: Evaluation, targets: Targets, probabilities: Floats) -> str:
    lines = []
    for index in _ranked_classes(found, targets):
        curve = precision_recall(targets == index, probabilities[:, index])
        lines.append(_line(found.classes[index], curve.recall, curve.precision))
    return chart(
        lines,
        title="Precision and recall",
        x_label="found (recall)",
        y_label="named rightly (precision)",
        x_range=(0, 1),
        y_range=(0, 1),
    )


def _line(name: str, x: Values, y: Values) -> Series:
    """Return a line with no more points than a chart draws: lists of all images would take more room than they."""
    kept = np.arange(len(x))
    if len(x) > MOST_POINTS:
        kept = np.rint(np.arange(MOST_POINTS) * ((len(x) - 1) / (MOST_POINTS - 1))).astype(np.int64)
    return Series(name, x[kept].tolist(), y[kept].tolist())


def _confusion(found: Evaluation) -> str:
    matrix = np.asarray(found.confusion, dtype=np.int64)
    order = confusion_order(matrix)
    names = [found.classes[i] for i in order]
    return heatmap(matrix[np.ix_(order, order)].tolist(), names, title="Confusion matrix of the test images")


def _reuse_depth(curve: Sequence[Mapping[str, Any]]) -> str:
    low = [_or_nan(point.get("low")) for point in curve]
    high = [_or_nan(point.get("high")) for point in curve]
    line = Series("accuracy", list(range(len(curve))), [_or_nan(point["accuracy"]) for point in curve], low, high)
    return chart(
        [line],
        title="Accuracy by the last group of the backbone that is reused",
        x_label="last group reused",
        y_label="accuracy",
        x_names=[str(point["tap"]) for point in curve],
        percent=True,
    )


def _stages(stages: Sequence[Mapping[str, Any]]) -> str:
    """Draw the held-out loss of every epoch; each stage starts at that of the model it began with."""
    drawn: list[Series] = []
    end = 0
    for stage in stages:
        losses = [stage["start_loss"], *stage["held_out_loss"]]
        outcome = "kept" if stage["kept"] else "rolled back"
        drawn.append(Series(f"{stage['name']} ({outcome})", [end + epoch for epoch in range(len(losses))], losses))
        if stage["kept"]:
            best = stage["best_epoch"]
            drawn.append(Series("its best epoch", [end + best], [losses[best]], kind="points"))
        end += len(losses) - 1
    return chart(
        drawn,
        title="Log loss on held-out images after every epoch",
        x_label="epoch, stage after stage",
        y_label="log loss of held-out images",
    )


def _learning(found: LearningScore) -> str:
    of = {name: [point[name] for point in found.points] for name in ("images", "accuracy", "low", "high")}
    return chart(
        [Series("accuracy", of["images"], of["accuracy"], of["low"], of["high"])],
        title="Accuracy by number of training images",
        x_label="training images",
        y_label="accuracy",
        x_range=(0, max(of["images"])),
        percent=True,
    )


def _ranked_classes(found: Evaluation, targets: Targets) -> list[int]:
    """Return the classes worth a curve: the positive one of two, else the weakest eight that both occur and do not."""
    weakest_first = [found.classes.index(row.label) for row in found.per_class]
    candidates = [found.classes.index(found.positive)] if found.positive is not None else weakest_first
    return [i for i in candidates if 0 < (targets == i).sum() < len(targets)][:COLOURS]


def _thinned(points: int) -> Indices:
    """Return the positions of about 200 points spread over a curve, its ends included."""
    return np.unique(np.linspace(0, points - 1, CURVE_POINTS).astype(np.int64))


def _interval(estimate: Estimate) -> Interval:
    return Interval(_or_nan(estimate.value), _or_nan(estimate.low), _or_nan(estimate.high))


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)
