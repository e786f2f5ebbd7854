"""From predictions to an `Evaluation`: pure, without a model or an image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from graft.evaluation.schema import ClassScore, Confused, Estimate, Evaluation, Paired, Scores
from graft.stats import confidence_intervals
from graft.stats.confidence_intervals import wilson
from graft.stats.metrics import METRICS, Floats, Metric, Targets, Values, confusion, metrics_for, per_class
from graft.stats.model_comparison import compare

CONFUSED_PAIRS = 12


@dataclass(frozen=True)
class Predicted:
    """What two models said about the images of one split."""

    targets: Targets
    """int64 (n,)."""
    model: Floats
    """Probabilities (n, C)."""
    head: Floats
    """Those of the head on frozen features (n, C)."""
    groups: npt.NDArray[Any]
    """(n,)."""


@dataclass(frozen=True)
class Sampling:
    """How intervals are made."""

    bootstrap: int = 1000
    confidence: float = 0.95
    seed: int = 0


def assess(
    test: Predicted,
    val: Predicted,
    train_targets: Targets,
    *,
    classes: Sequence[str],
    dataset_digest: str,
    sampling: Sampling,
    others: Mapping[str, Floats] | None = None,
    positive: int = 1,
) -> Evaluation:
    """Measure the model on test and compare it with the head, with always naming the largest class, and with others.

    Args:
        test: predictions on the test split.
        val: predictions on the validation split, whose scores selection has seen.
        train_targets: classes of the training images, int64 (n,).
        classes: labels in the order of the probabilities' columns.
        dataset_digest: of the dataset.
        sampling: of the intervals.
        others: further baselines by name: probabilities (n, C) on test.
        positive: index of the positive class, if there are two.
    """
    majority = majority_probabilities(train_targets, len(classes), len(test.targets))
    baselines = {**(others or {}), "majority": majority}
    matrix = confusion(test.targets, test.model)[0].astype(np.int64)
    metrics = metrics_for(len(classes), positive)
    compared = {name: metrics[name] for name in METRICS}
    return Evaluation(
        classes=tuple(classes),
        positive=classes[positive] if len(classes) == 2 else None,
        dataset_digest=dataset_digest,
        images={"train": len(train_targets), "val": len(val.targets), "test": len(test.targets)},
        confidence=sampling.confidence,
        test=scores_of(test.targets, test.model, test.groups, sampling, metrics),
        val=scores_of(val.targets, val.model, val.groups, sampling, metrics),
        head=scores_of(test.targets, test.head, test.groups, sampling, metrics),
        baseline={
            name: scores_of(test.targets, found, test.groups, sampling, metrics) for name, found in baselines.items()
        },
        comparison={
            name: paired(name, test.targets, test.model, found, test.groups, sampling, compared)
            for name, found in {"head": test.head, **baselines}.items()
        },
        per_class=class_scores(test.targets, test.model, classes, sampling.confidence),
        confusion=matrix.tolist(),
        most_confused=most_confused(matrix, classes),
    )


def scores_of(
    targets: Targets,
    probabilities: Floats,
    groups: npt.NDArray[Any],
    sampling: Sampling,
    metrics: dict[str, Metric],
) -> Scores:
    """Return every metric as an `Estimate`."""
    found = confidence_intervals.scored(
        targets,
        probabilities,
        groups,
        metrics=metrics,
        count=sampling.bootstrap,
        confidence=sampling.confidence,
        seed=sampling.seed,
    )
    return {name: Estimate.of(interval) for name, interval in found.items()}


def majority_probabilities(train_targets: Targets, classes: int, images: int) -> Values:
    """Return what a model says that has seen the training labels and no image: their frequencies, (images, C)."""
    counts = np.bincount(train_targets, minlength=classes).astype(np.float64)
    return np.tile(counts / counts.sum(), (images, 1))


def paired(
    against: str,
    targets: Targets,
    model: Floats,
    other: Floats,
    groups: npt.NDArray[Any],
    sampling: Sampling,
    metrics: dict[str, Metric],
) -> Paired:
    """Compare the model with another one on the same images."""
    found = compare(
        targets,
        model,
        other,
        groups,
        metrics=metrics,
        count=sampling.bootstrap,
        confidence=sampling.confidence,
        seed=sampling.seed,
    )
    return Paired.of(against, found)


def class_scores(
    targets: Targets, probabilities: Floats, classes: Sequence[str], confidence: float
) -> list[ClassScore]:
    """Return the scores of each class, the worst recall first; classes without a test image last."""
    of = per_class(targets, probabilities)
    rows = [
        ClassScore(
            label=label,
            images=int(of.support[i]),
            correct=int(of.correct[i]),
            predicted=int(of.predicted[i]),
            recall=Estimate.of(wilson(of.correct[i], of.support[i], confidence)),
            precision=Estimate.of(wilson(of.correct[i], of.predicted[i], confidence)),
            f1=None if np.isnan(of.f1[i]) else float(of.f1[i]),
        )
        for i, label in enumerate(classes)
    ]
    return sorted(rows, key=lambda row: (row.recall.value is None, row.recall.value or 0.0, row.label))


def most_confused(matrix: npt.NDArray[np.int64], classes: Sequence[str]) -> list[Confused]:
    """Return the pairs of classes that are confused, the largest part of its class first."""
    pairs = [
        Confused(label=classes[i], predicted=classes[j], images=int(matrix[i, j]), of=int(matrix[i].sum()))
        for i, j in np.argwhere(matrix)
        if i != j
    ]
    return sorted(pairs, key=lambda pair: (-pair.images / pair.of, -pair.images, pair.label))[:CONFUSED_PAIRS]
