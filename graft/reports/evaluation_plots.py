"""The figures of an evaluation by name: as SVG for the page and files, and as tables for other plotting tools."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.evaluation.schema import Estimate, Evaluation, LearningScore
from graft.reports.svg_charts import COLOUR_COUNT, MAX_POINTS, Series, bar_chart, heatmap, interval_chart, line_chart
from graft.stats.confidence_intervals import Interval
from graft.stats.curves import confusion_order, precision_recall, reliability, roc
from graft.stats.metrics import Floats, Targets, Values, predictions

MAX_CLASSES_IN_HEATMAP = 40
CONFIDENCE_STEPS = 10
CURVE_POINTS = 200
Indices = npt.NDArray[np.int64]


def figures(
    evaluation: Evaluation,
    targets: Targets,
    probabilities: Floats,
    curve: Sequence[Mapping[str, Any]],
    stages: Sequence[Mapping[str, Any]],
    raw: Floats | None = None,
) -> dict[str, str]:
    """Draw every figure that the evaluation has data for.

    Args:
        evaluation: the evaluation.
        targets: of the test images, int64 (n,).
        probabilities: of the model on the test images (n, C).
        curve: the head's reuse-depth curve, a list of `{"tap", "accuracy", "low", "high"}`.
        stages: of fine-tuning, with the fields of `StageRecord`.
        raw: probabilities before temperature scaling (n, C), to compare.
    """
    drawn = {"comparison": _comparison(evaluation)}
    if evaluation.task.exclusive:
        drawn |= _class_figures(evaluation, targets, probabilities, raw)
    if len(curve) > 1:
        drawn["reuse_depth"] = _reuse_depth(curve)
    if stages:
        drawn["stages"] = _stages(stages)
    if evaluation.learning and len(evaluation.learning.points) > 1:
        drawn["learning"] = _learning(evaluation.learning)
    return drawn


def _class_figures(
    evaluation: Evaluation, targets: Targets, probabilities: Floats, raw: Floats | None
) -> dict[str, str]:
    """Draw the figures that need a task with exactly one right label per image."""
    drawn = {
        "reliability": _reliability(targets, probabilities, raw, evaluation.confidence),
        "confidence": _confidence(probabilities),
        "roc": _roc(evaluation, targets, probabilities),
        "precision_recall": _precision_recall(evaluation, targets, probabilities),
    }
    if len(evaluation.classes) <= MAX_CLASSES_IN_HEATMAP:
        drawn["confusion"] = _confusion(evaluation)
    return drawn


def tables(evaluation: Evaluation, targets: Targets, probabilities: Floats) -> dict[str, pd.DataFrame]:
    """Return the tables for external plotting tools by name, for a task with exactly one right label per image."""
    return {
        "confusion": confusion_table(targets, predictions(probabilities), evaluation.classes),
        "roc": roc_table(evaluation, targets, probabilities),
        "precision_recall": precision_recall_table(evaluation, targets, probabilities),
        "reliability": reliability_table(targets, probabilities),
    }


def confusion_table(targets: Targets, predicted: Targets, classes: Sequence[str]) -> pd.DataFrame:
    """Return one row per image with columns `actual` and `predicted`: the format of `dvc plots` confusion matrices."""
    names = np.asarray(classes, dtype=object)
    return pd.DataFrame({"actual": names[targets], "predicted": names[predicted]})


def roc_table(evaluation: Evaluation, targets: Targets, probabilities: Floats) -> pd.DataFrame:
    """Return the ROC curves, thinned: columns `label`, `false_positive_rate`, `true_positive_rate`, `threshold`."""
    rows = []
    for index in _ranked_classes(evaluation, targets):
        curve = roc(targets == index, probabilities[:, index])
        for at in _thinned(len(curve.thresholds)):
            threshold = min(float(curve.thresholds[at]), 1.0)
            rows.append((evaluation.classes[index], curve[0][at], curve[1][at], threshold))
    return pd.DataFrame(rows, columns=["label", "false_positive_rate", "true_positive_rate", "threshold"])


def precision_recall_table(evaluation: Evaluation, targets: Targets, probabilities: Floats) -> pd.DataFrame:
    """Return the precision-recall curves, thinned: columns `label`, `recall`, `precision`, `threshold`."""
    rows = []
    for index in _ranked_classes(evaluation, targets):
        curve = precision_recall(targets == index, probabilities[:, index])
        for at in _thinned(len(curve.thresholds)):
            rows.append((evaluation.classes[index], curve.recall[at], curve.precision[at], float(curve.thresholds[at])))
    return pd.DataFrame(rows, columns=["label", "recall", "precision", "threshold"])


def reliability_table(targets: Targets, probabilities: Floats) -> pd.DataFrame:
    """Return the reliability diagram: columns `confidence`, `accuracy`, `low`, `high`, `images`."""
    confidence, right, images = reliability(targets, probabilities)
    columns = {"accuracy": [r.value for r in right], "low": [r.low for r in right], "high": [r.high for r in right]}
    return pd.DataFrame({"confidence": confidence, **columns, "images": images})


def _comparison(evaluation: Evaluation) -> str:
    rows = [("most frequent class", evaluation.baseline["majority"]["accuracy"], 8)]
    if random := evaluation.baseline.get("random_init"):
        rows.append(("without pretraining", random["accuracy"], 3))
    rows += [
        ("head on frozen features", evaluation.head["accuracy"], 2),
        ("this model", evaluation.test["accuracy"], 1),
    ]
    shown = [(name, _interval(estimate), colour) for name, estimate, colour in rows]
    return interval_chart(
        shown, title="Test accuracy of the model and its alternatives", x_label="accuracy", percent=True
    )


def _reliability(targets: Targets, probabilities: Floats, raw: Floats | None, level: float) -> str:
    lines = []
    if raw is not None and not np.allclose(raw, probabilities, atol=5e-3):
        confidence, right, _ = reliability(targets, raw, level)
        lines.append(
            Series("before temperature scaling", confidence, [r.value for r in right], kind="dashed", colour=8)
        )
    confidence, right, _ = reliability(targets, probabilities, level)
    low, high = [r.low for r in right], [r.high for r in right]
    lines.append(Series("share of right answers", confidence, [r.value for r in right], low, high, "points", 1))
    return line_chart(
        lines,
        title="Share of right answers by their confidence",
        x_label="confidence",
        y_label="share of right answers",
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
    return bar_chart(rows[::-1], title="Number of test images by confidence", x_label="test images")


def _roc(evaluation: Evaluation, targets: Targets, probabilities: Floats) -> str:
    lines = []
    for index in _ranked_classes(evaluation, targets):
        curve = roc(targets == index, probabilities[:, index])
        lines.append(_line(evaluation.classes[index], curve.false_positive_rate, curve.true_positive_rate))
    return line_chart(
        lines,
        title="ROC curve",
        x_label="false positive rate",
        y_label="true positive rate (recall)",
        x_range=(0, 1),
        y_range=(0, 1),
        ideal=True,
    )


def _precision_recall(evaluation: Evaluation, targets: Targets, probabilities: Floats) -> str:
    lines = []
    for index in _ranked_classes(evaluation, targets):
        curve = precision_recall(targets == index, probabilities[:, index])
        lines.append(_line(evaluation.classes[index], curve.recall, curve.precision))
    return line_chart(
        lines,
        title="Precision and recall",
        x_label="recall",
        y_label="precision",
        x_range=(0, 1),
        y_range=(0, 1),
    )


def _line(name: str, x: Values, y: Values) -> Series:
    """Return a line with at most as many points as a chart draws: Python lists of all images would need much memory."""
    kept = np.arange(len(x))
    if len(x) > MAX_POINTS:
        kept = np.rint(np.arange(MAX_POINTS) * ((len(x) - 1) / (MAX_POINTS - 1))).astype(np.int64)
    return Series(name, x[kept].tolist(), y[kept].tolist())


def _confusion(evaluation: Evaluation) -> str:
    matrix = np.asarray(evaluation.confusion, dtype=np.int64)
    order = confusion_order(matrix)
    names = [evaluation.classes[i] for i in order]
    return heatmap(matrix[np.ix_(order, order)].tolist(), names, title="Confusion matrix of the test images")


def _reuse_depth(curve: Sequence[Mapping[str, Any]]) -> str:
    low = [_or_nan(point.get("low")) for point in curve]
    high = [_or_nan(point.get("high")) for point in curve]
    line = Series("accuracy", list(range(len(curve))), [_or_nan(point["accuracy"]) for point in curve], low, high)
    return line_chart(
        [line],
        title="Accuracy by the last group of the backbone that is reused",
        x_label="last group reused",
        y_label="accuracy",
        x_names=[str(point["tap"]) for point in curve],
        percent=True,
    )


def _stages(stages: Sequence[Mapping[str, Any]]) -> str:
    """Draw the held-out losses of all stages; the curve of a stage starts with the loss before its first epoch."""
    drawn: list[Series] = []
    end = 0
    for stage in stages:
        losses = [stage["start_loss"], *stage["held_out_loss"]]
        points, epochs = len(losses) - 1, stage["epochs"]
        places = [-(-epochs * point // points) for point in range(points + 1)] if points else [0]
        outcome = "kept" if stage["kept"] else "tried" if stage.get("trial") else "rolled back"
        drawn.append(Series(f"{stage['name']} ({outcome})", [end + place for place in places], losses))
        if stage["kept"]:
            last = stage["best_epoch"]
            drawn.append(Series("kept", [end + last], [losses[places.index(last)]], kind="points"))
        end += places[-1]
    return line_chart(
        drawn,
        title="Log loss on held-out images during the stages",
        x_label="epoch, counted over all stages",
        y_label="held-out log loss",
    )


def _learning(learning: LearningScore) -> str:
    points = {name: [point[name] for point in learning.points] for name in ("images", "accuracy", "low", "high")}
    return line_chart(
        [Series("accuracy", points["images"], points["accuracy"], points["low"], points["high"])],
        title="Accuracy by number of training images",
        x_label="training images",
        y_label="accuracy",
        x_range=(0, max(points["images"])),
        percent=True,
    )


def _ranked_classes(evaluation: Evaluation, targets: Targets) -> list[int]:
    """Return the classes to draw: the positive one of two, else the weakest eight that have positives and negatives."""
    weakest_first = [evaluation.classes.index(row.label) for row in evaluation.per_class]
    candidates = [evaluation.classes.index(evaluation.positive)] if evaluation.positive is not None else weakest_first
    return [i for i in candidates if 0 < (targets == i).sum() < len(targets)][:COLOUR_COUNT]


def _thinned(points: int) -> Indices:
    """Return the positions of about 200 points spread over a curve, its ends included."""
    return np.unique(np.linspace(0, points - 1, CURVE_POINTS).astype(np.int64))


def _interval(estimate: Estimate) -> Interval:
    return Interval(_or_nan(estimate.value), _or_nan(estimate.low), _or_nan(estimate.high))


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)
