"""From predictions to an `Evaluation`: pure functions, without a model or an image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from graft.evaluation.schema import ClassScore, ConfusedPair, Estimate, Evaluation, PairedComparison, Scores
from graft.stats import confidence_intervals
from graft.stats.confidence_intervals import proportion
from graft.stats.metrics import METRICS, Floats, Metric, Targets, confusion, per_class, predictions
from graft.stats.model_comparison import compare
from graft.tasks.task import Task

CONFUSED_PAIRS = 12


@dataclass(frozen=True)
class SplitPredictions:
    """The predictions of two models for the n images of one split."""

    targets: Targets
    """As the task returns them; the first axis is the images."""
    model: Floats
    """The model's probabilities (n, C)."""
    head: Floats
    """The probabilities of the head on frozen features (n, C)."""
    groups: npt.NDArray[Any]
    """(n,)."""


@dataclass(frozen=True)
class Sampling:
    """How to compute intervals."""

    bootstrap: int = 1000
    confidence: float = 0.95
    seed: int = 0


def assess(
    test: SplitPredictions,
    val: SplitPredictions,
    train_targets: Targets,
    *,
    task: Task,
    dataset_digest: str,
    sampling: Sampling,
    others: Mapping[str, Floats] | None = None,
    positive: int = 1,
) -> Evaluation:
    """Measure the model on test and compare it with the head, with always predicting the largest class, and others.

    Args:
        test: predictions on the test split.
        val: predictions on the validation split, which model selection has used.
        train_targets: of the training images.
        task: what was learnt.
        dataset_digest: of the dataset.
        sampling: of the intervals.
        others: further baselines by name: probabilities (n, C) on test.
        positive: index of the positive class, if there are two.
    """
    baselines = {**(others or {}), "majority": task.baseline(train_targets, len(test.targets))}
    metrics = task.metrics(positive)
    compared = {name: metric for name, metric in metrics.items() if name in METRICS}
    return Evaluation(
        classes=task.labels,
        task=task,
        positive=task.labels[positive] if task.exclusive and task.outputs == 2 else None,
        dataset_digest=dataset_digest,
        images={"train": len(train_targets), "val": len(val.targets), "test": len(test.targets)},
        confidence=sampling.confidence,
        test=estimate_scores(task, test.targets, test.model, test.groups, sampling, metrics),
        val=estimate_scores(task, val.targets, val.model, val.groups, sampling, metrics),
        head=estimate_scores(task, test.targets, test.head, test.groups, sampling, metrics),
        baseline={
            name: estimate_scores(task, test.targets, found, test.groups, sampling, metrics)
            for name, found in baselines.items()
        },
        comparison={
            name: compare_with(task, name, test, found, sampling, compared)
            for name, found in {"head": test.head, **baselines}.items()
        },
        **(_by_class(task, test, sampling.confidence) if task.exclusive else _NOT_BY_CLASS),
    )


_NOT_BY_CLASS: dict[str, Any] = {"per_class": [], "confusion": [], "most_confused": []}


def _by_class(task: Task, test: SplitPredictions, confidence: float) -> dict[str, Any]:
    """Return the scores by class, which only a task with exactly one right label has."""
    matrix = confusion(test.targets, test.model)[0].astype(np.int64)
    return {
        "per_class": class_scores(test.targets, test.model, test.groups, task.labels, confidence),
        "confusion": matrix.tolist(),
        "most_confused": most_confused(matrix, task.labels),
    }


def estimate_scores(
    task: Task,
    targets: Targets,
    probabilities: Floats,
    groups: npt.NDArray[Any],
    sampling: Sampling,
    metrics: dict[str, Metric],
) -> Scores:
    """Return every metric as an `Estimate`."""
    found = confidence_intervals.metric_intervals(
        targets,
        probabilities,
        groups,
        metrics=metrics,
        count=sampling.bootstrap,
        confidence=sampling.confidence,
        seed=sampling.seed,
        strata=task.strata(targets),
        correct=task.correct(probabilities, targets),
    )
    return {name: Estimate.of(interval) for name, interval in found.items()}


def compare_with(
    task: Task, against: str, test: SplitPredictions, other: Floats, sampling: Sampling, metrics: dict[str, Metric]
) -> PairedComparison:
    """Compare the model with another one on the same images."""
    found = compare(
        test.targets,
        test.model,
        other,
        test.groups,
        metrics=metrics,
        count=sampling.bootstrap,
        confidence=sampling.confidence,
        seed=sampling.seed,
        strata=task.strata(test.targets),
        correct=(task.correct(test.model, test.targets), task.correct(other, test.targets)),
    )
    return PairedComparison.of(against, found)


def class_scores(
    targets: Targets, probabilities: Floats, groups: npt.NDArray[Any], classes: Sequence[str], confidence: float
) -> list[ClassScore]:
    """Return the scores of each class, the worst recall first, classes without test images last.

    The groups (n,) of the images give every interval its effective sample size.
    """
    of, named = per_class(targets, probabilities), predictions(probabilities)

    def rate_right(rows: npt.NDArray[np.bool_]) -> Estimate:
        return Estimate.of(proportion((named == targets)[rows], groups[rows], confidence))

    rows = [
        ClassScore(
            label=label,
            images=int(of.support[i]),
            correct=int(of.correct[i]),
            predicted=int(of.predicted[i]),
            recall=rate_right(targets == i),
            precision=rate_right(named == i),
            f1=None if np.isnan(of.f1[i]) else float(of.f1[i]),
        )
        for i, label in enumerate(classes)
    ]
    return sorted(rows, key=lambda row: (row.recall.value is None, row.recall.value or 0.0, row.label))


def most_confused(matrix: npt.NDArray[np.int64], classes: Sequence[str]) -> list[ConfusedPair]:
    """Return the confused pairs of classes, sorted by the share of the class's images, highest first."""
    pairs = [
        ConfusedPair(label=classes[i], predicted=classes[j], images=int(matrix[i, j]), of=int(matrix[i].sum()))
        for i, j in np.argwhere(matrix)
        if i != j
    ]
    return sorted(pairs, key=lambda pair: (-pair.images / pair.of, -pair.images, pair.label))[:CONFUSED_PAIRS]
