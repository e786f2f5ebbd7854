"""From predictions to an `Evaluation`: pure functions, without a model or an image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from graft.evaluation.schema import ClassScore, ConfusedPair, Estimate, Evaluation, PairedComparison, Scores
from graft.stats.confidence_intervals import proportion
from graft.stats.metrics import METRICS, Floats, Metric, Targets, confusion, per_class, predictions
from graft.stats.model_comparison import compare
from graft.stats.resampled_metrics import Resampled, metric_intervals, resampled_metrics
from graft.tasks.task import LabelFlags, Task

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

    def subset(self, rows: npt.NDArray[np.int64]) -> "SplitPredictions":
        """Return the predictions for some of the images."""
        return SplitPredictions(self.targets[rows], self.model[rows], self.head[rows], self.groups[rows])


@dataclass(frozen=True)
class OtherModel:
    """A baseline's predictions for the test images, or for a sample of them."""

    probabilities: Floats
    """(k, C)."""
    rows: npt.NDArray[np.int64] | None = None
    """Positions of these among the test images (k,); None: all of them."""
    trained_on: int | None = None
    """Training images, if it was fitted to a sample of them."""


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
    others: Mapping[str, OtherModel] | None = None,
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
        others: further baselines by name.
        positive: index of the positive class, if there are two.
    """
    metrics = task.metrics(positive)
    own = Measured.of(task, test, test.model, sampling, metrics)
    head = own if np.array_equal(test.head, test.model) else Measured.of(task, test, test.head, sampling, metrics)
    majority = OtherModel(task.baseline(train_targets, len(test.targets)))
    baselines, comparison = {}, {"head": own.compared("head", head)}
    for name, other in {**(others or {}), "majority": majority}.items():
        part = test if other.rows is None else test.subset(other.rows)
        ours = own if other.rows is None else Measured.of(task, part, part.model, sampling, metrics)
        theirs = Measured.of(task, part, other.probabilities, sampling, metrics)
        baselines[name] = theirs.scores()
        sampled = {"images": None if other.rows is None else len(other.rows), "trained_on": other.trained_on}
        comparison[name] = ours.compared(name, theirs).model_copy(update=sampled)
    return Evaluation(
        classes=task.labels,
        task=task,
        positive=task.labels[positive] if task.exclusive and task.outputs == 2 else None,
        dataset_digest=dataset_digest,
        images={"train": len(train_targets), "val": len(val.targets), "test": len(test.targets)},
        confidence=sampling.confidence,
        test=own.scores(),
        undefined=_undefined(own.scores(), task, test.targets),
        val=Measured.of(task, val, val.model, sampling, metrics).scores(),
        head=head.scores(),
        baseline=baselines,
        comparison=comparison,
        **(
            _by_class(task, test, sampling.confidence) if task.exclusive else _by_label(task, test, sampling.confidence)
        ),
    )


@dataclass(frozen=True)
class Measured:
    """One model on the images of a split: its metrics in every resample serve its intervals and all comparisons."""

    task: Task
    split: SplitPredictions
    probabilities: Floats
    sampling: Sampling
    metrics: dict[str, Metric]
    resampled: Resampled | None
    """None without images."""

    @classmethod
    def of(
        cls,
        task: Task,
        split: SplitPredictions,
        probabilities: Floats,
        sampling: Sampling,
        metrics: dict[str, Metric],
    ) -> "Measured":
        """Measure probabilities (n, C) for the images of a split."""
        found = None
        if len(split.targets):
            found = resampled_metrics(
                split.targets,
                probabilities,
                split.groups,
                task.strata(split.targets),
                metrics={name: metric for name, metric in metrics.items() if name != "accuracy"},
                count=sampling.bootstrap,
                seed=sampling.seed,
                confidence=sampling.confidence,
            )
        return cls(task, split, probabilities, sampling, metrics, found)

    def scores(self) -> Scores:
        """Return every metric as an `Estimate`."""
        found = metric_intervals(
            self.split.targets,
            self.probabilities,
            self.split.groups,
            metrics=self.metrics,
            confidence=self.sampling.confidence,
            correct=self.task.correct(self.probabilities, self.split.targets),
            resampled=self.resampled,
        )
        return {name: Estimate.of(interval) for name, interval in found.items()}

    def compared(self, against: str, other: "Measured") -> PairedComparison:
        """Compare this model with another one on the same images."""
        targets, task = self.split.targets, self.task
        chosen, theirs = (task.answers(found.probabilities).chosen for found in (self, other))
        resampled = (self.resampled, other.resampled) if self.resampled and other.resampled else None
        found = compare(
            targets,
            self.probabilities,
            other.probabilities,
            self.split.groups,
            metrics={name: metric for name, metric in self.metrics.items() if name in METRICS or not task.exclusive},
            confidence=self.sampling.confidence,
            strata=task.strata(targets),
            correct=(task.correct(self.probabilities, targets), task.correct(other.probabilities, targets)),
            same=chosen == theirs,
            resampled=resampled,
        )
        return PairedComparison.of(against, found)


def _undefined(scores: Scores, task: Task, targets: Targets) -> dict[str, str]:
    """Return why metrics of the test images have no value."""
    missing = [name for name, score in scores.items() if score.value is None]
    return {name: _why_undefined(name, task, targets) for name in missing}


def _why_undefined(metric: str, task: Task, targets: Targets) -> str:
    if not len(targets):
        return "there is no test image"
    if metric == "ece":
        return "too few test images"
    if task.exclusive and len(present := np.unique(targets)) == 1:
        return f"all test images are {task.labels[int(present[0])]!r}"
    return "the test images leave it open"


def _by_label(task: Task, test: SplitPredictions, confidence: float) -> dict[str, Any]:
    """Return the scores by label of a task of independent labels; there is no confusion between them."""
    flags = task.label_flags(test.model, test.targets)
    found = [] if flags is None else label_scores(flags, test.groups, task.labels, confidence)
    return {"per_class": found, "confusion": [], "most_confused": []}


def _by_class(task: Task, test: SplitPredictions, confidence: float) -> dict[str, Any]:
    """Return the scores by class, which only a task with exactly one right label has."""
    matrix = confusion(test.targets, test.model)[0].astype(np.int64)
    return {
        "per_class": class_scores(test.targets, test.model, test.groups, task.labels, confidence),
        "confusion": matrix.tolist(),
        "most_confused": most_confused(matrix, task.labels),
    }


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


def label_scores(
    flags: LabelFlags, groups: npt.NDArray[Any], labels: Sequence[str], confidence: float
) -> list[ClassScore]:
    """Return the scores of each of several independent labels, the worst recall first."""
    rows = []
    for label, present, named in zip(labels, flags.present.T, flags.named.T, strict=True):
        hits, support, answered = int((present & named).sum()), int(present.sum()), int(named.sum())
        rows.append(
            ClassScore(
                label=label,
                images=support,
                correct=hits,
                predicted=answered,
                recall=Estimate.of(proportion(named[present], groups[present], confidence)),
                precision=Estimate.of(proportion(present[named], groups[named], confidence)),
                f1=2 * hits / (support + answered) if support + answered else None,
            )
        )
    return sorted(rows, key=lambda row: (row.recall.value is None, row.recall.value or 0.0, row.label))


def most_confused(matrix: npt.NDArray[np.int64], classes: Sequence[str]) -> list[ConfusedPair]:
    """Return the confused pairs of classes, sorted by the share of the class's images, highest first."""
    pairs = [
        ConfusedPair(label=classes[i], predicted=classes[j], images=int(matrix[i, j]), of=int(matrix[i].sum()))
        for i, j in np.argwhere(matrix)
        if i != j
    ]
    return sorted(pairs, key=lambda pair: (-pair.images / pair.of, -pair.images, pair.label))[:CONFUSED_PAIRS]
