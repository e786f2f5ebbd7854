"""The metrics of a classifier, in NumPy alone and computed for many resamples at once.

Every metric has the shape `metric(targets, probabilities, weights) -> values`:

- `targets`: int64 (n,), the index of each image's class;
- `probabilities`: float (n, C), each row summing to one; with two classes, class 1 is the positive one (see
  `metrics_for` for the other);
- `weights`: float (R, n), how often each image counts in each of R resamples; None counts each once;
- the values: float64 (R,), NaN where a resample leaves the metric undefined (no image of a class, say).

So the estimate and its bootstrap share one implementation. Absent classes are left out of macro averages.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graft.stats.ranking_metrics import Ranking, precision_area, rankings, roc_area

Targets = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]
Values = npt.NDArray[np.float64]
Metric = Callable[[Targets, Floats, Floats | None], Values]

ECE_BINS = 15
IMAGES_PER_BIN = 10
"""Fewest images in a bin of the calibration error; a small set has fewer bins."""
MOST_RANKED = 50
"""Classes whose rankings are resampled for the intervals of AUROC and average precision."""


def predictions(probabilities: Floats) -> Targets:
    """Return the most probable class of each row, int64 (n,); the first one in a tie."""
    return np.asarray(np.argmax(probabilities, axis=1), dtype=np.int64)


def accuracy(targets: Targets, probabilities: Floats, weights: Floats | None = None) -> Values:
    """Return the share of images whose most probable class is the right one."""
    return _mean(predictions(probabilities) == targets, _counted(weights, targets))


def top_k_accuracy(targets: Targets, probabilities: Floats, weights: Floats | None = None, *, k: int = 5) -> Values:
    """Return the share of images whose right class is among the k most probable ones."""
    of_target = np.take_along_axis(probabilities, targets[:, None], axis=1)
    rank = (probabilities > of_target).sum(axis=1)
    return _mean(rank < k, _counted(weights, targets))


def balanced_accuracy(targets: Targets, probabilities: Floats, weights: Floats | None = None) -> Values:
    """Return the mean recall of the classes that have images."""
    support, _, correct = _class_counts(targets, probabilities, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _nanmean(correct / support)


def macro_f1(targets: Targets, probabilities: Floats, weights: Floats | None = None) -> Values:
    """Return the mean F1 of the classes that have images or predictions."""
    support, predicted, correct = _class_counts(targets, probabilities, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _nanmean(2 * correct / (support + predicted))


def log_loss(targets: Targets, probabilities: Floats, weights: Floats | None = None) -> Values:
    """Return the mean negative log probability of the right class."""
    of_target = np.take_along_axis(probabilities, targets[:, None], axis=1)[:, 0]
    smallest = np.finfo(probabilities.dtype).eps
    return _mean(-np.log(np.clip(of_target.astype(np.float64), smallest, 1.0)), _counted(weights, targets))


def brier(targets: Targets, probabilities: Floats, weights: Floats | None = None) -> Values:
    """Return the mean squared distance between the probabilities and the truth.

    As usual, two classes count the positive class alone (0 to 1), more classes their sum (0 to 2).
    """
    distance = ((probabilities - _one_hot(targets, probabilities.shape[1])) ** 2).sum(axis=1)
    return _mean(distance / 2 if probabilities.shape[1] == 2 else distance, _counted(weights, targets))


def ece(targets: Targets, probabilities: Floats, weights: Floats | None = None) -> Values:
    """Return the root mean squared calibration error of the predicted class's probability, debiased.

    The gap between confidence and accuracy is measured in bins of equally many images. Even with perfect probabilities
    the accuracy of a bin varies by chance, which the usual error takes for miscalibration, the more so the smaller the
    set: that variance is subtracted (Kumar, Liang and Ma, Verified Uncertainty Calibration, NeurIPS 2019). An error
    that is not larger than chance is 0.
    """
    counted = _counted(weights, targets)
    confidence, right = probabilities.max(axis=1), predictions(probabilities) == targets
    bins = _equal_bins(confidence)
    held = _summed(counted, bins, ECE_BINS)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = _summed(counted * right, bins, ECE_BINS) / held
        gap = _summed(counted * confidence, bins, ECE_BINS) / held - accuracy
        squared = gap**2 - accuracy * (1 - accuracy) / (held - 1)
    # A single image has no variance to subtract, so it tells nothing.
    used = held > 1
    total = np.where(used, held, 0.0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(used, held * squared, 0.0).sum(axis=1) / total
    return np.asarray(np.sqrt(np.maximum(mean, 0.0)), dtype=np.float64)


def _equal_bins(confidence: Floats) -> Targets:
    """Return the bin of each image, int64 (n,): as many images in each, equal confidences together."""
    number = min(ECE_BINS, max(1, len(confidence) // IMAGES_PER_BIN))
    ranked = np.sort(confidence)
    edges = ranked[np.arange(1, number) * len(confidence) // number]
    return np.asarray(np.searchsorted(edges, confidence, side="right"), dtype=np.int64)


@dataclass(frozen=True)
class RankingMetric:
    """A ranking metric: of the positive one of two classes, or the mean over classes."""

    area: Callable[[Ranking], Values]
    """Of one class against the rest."""
    positive: int = 1
    """Of two classes."""

    def __call__(self, targets: Targets, probabilities: Floats, weights: Floats | None = None) -> Values:
        """Compute the metric, with the arguments of all metrics."""
        return ranking_values({"": self}, targets, probabilities, weights)[""]


def ranking_values(
    metrics: Mapping[str, RankingMetric], targets: Targets, probabilities: Floats, weights: Floats | None = None
) -> dict[str, Values]:
    """Return several ranking metrics of the same classes from one pass over the rankings.

    In resamples, more than `MOST_RANKED` classes are represented by that many, evenly spaced in their order. The mean
    of fewer classes varies more, so intervals get wider than they need to be, not narrower.
    """
    if not metrics:
        return {}
    counted, number = _counted(weights, targets), probabilities.shape[1]
    (positive,) = {metric.positive for metric in metrics.values()}
    classes: Sequence[int] = [positive] if number == 2 else range(number)
    if weights is not None:
        classes = ranked_in_resamples(number) if number != 2 else classes
    areas: dict[str, list[Values]] = {name: [] for name in metrics}
    with np.errstate(invalid="ignore", divide="ignore"):
        for ranking in rankings(targets, probabilities, counted, classes):
            for name, metric in metrics.items():
                areas[name].append(metric.area(ranking))
    return {name: _nanmean(np.stack(of_class, axis=1)) for name, of_class in areas.items()}


def ranked_in_resamples(classes: int) -> list[int]:
    """Return the classes whose rankings are resampled."""
    return [int(label) for label in np.linspace(0, classes - 1, min(classes, MOST_RANKED)).round()]


def confusion(targets: Targets, probabilities: Floats, weights: Floats | None = None) -> Values:
    """Return how often images of each class (axis 1) got each prediction (axis 2), float64 (R, C, C)."""
    classes = probabilities.shape[1]
    cells = targets * classes + predictions(probabilities)
    return _summed(_counted(weights, targets), cells, classes * classes).reshape(-1, classes, classes)


class ClassScores(NamedTuple):
    """Per-class counts and rates, each (C,); a rate without a denominator is NaN."""

    support: Targets
    predicted: Targets
    correct: Targets
    precision: Values
    recall: Values
    f1: Values


def per_class(targets: Targets, probabilities: Floats) -> ClassScores:
    """Return precision, recall and F1 of each class with the counts behind them."""
    matrix = confusion(targets, probabilities)[0].astype(np.int64)
    correct, support, predicted = np.diagonal(matrix).copy(), matrix.sum(axis=1), matrix.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = 2 * correct / (support + predicted)
        return ClassScores(support, predicted, correct, correct / predicted, correct / support, f1)


def confidence_bins(confidence: Floats, bins: int = ECE_BINS) -> Targets:
    """Return the bin of each probability, int64 (n,): equal widths, closed above: (0, 1/15], (1/15, 2/15], ..."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def softmax(logits: Floats, temperature: float = 1.0) -> Values:
    """Return the probabilities of logits (n, C) divided by a temperature, float64."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    exponential = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exponential / exponential.sum(axis=1, keepdims=True), dtype=np.float64)


auroc = RankingMetric(roc_area)
"""Area under the ROC curve."""
average_precision = RankingMetric(precision_area)
"""Average precision, as scikit-learn defines it."""

METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "auroc": auroc,
    "average_precision": average_precision,
    "log_loss": log_loss,
    "brier": brier,
    "ece": ece,
}
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "ece"})
TOP_K_FROM = 6
"""With fewer classes, top-3 accuracy is too easy to mean anything."""


def metrics_for(classes: int, positive: int = 1) -> dict[str, Metric]:
    """Return the metrics that make sense for this number of classes.

    Args:
        classes: number of classes.
        positive: index of the positive class, if there are two.
    """
    found = dict(METRICS)
    if classes == 2:
        found |= {
            "auroc": RankingMetric(roc_area, positive),
            "average_precision": RankingMetric(precision_area, positive),
        }
    if classes >= TOP_K_FROM:
        found["top_3_accuracy"] = _top_3_accuracy
    return found


def _top_3_accuracy(targets: Targets, probabilities: Floats, weights: Floats | None) -> Values:
    return top_k_accuracy(targets, probabilities, weights, k=3)


def _counted(weights: Floats | None, targets: Targets) -> Floats:
    return np.ones((1, len(targets))) if weights is None else weights


def mean_by_resample(values: npt.NDArray[np.generic], weights: Floats | None) -> Values:
    """Return the mean of values (n,) in each of R resamples, (R,): for metrics that are a mean over images."""
    return _mean(values, np.ones((1, len(values))) if weights is None else weights)


def _mean(values: npt.NDArray[np.generic], counted: Floats) -> Values:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(counted @ values.astype(np.float64) / counted.sum(axis=1), dtype=np.float64)


def _class_counts(targets: Targets, probabilities: Floats, weights: Floats | None) -> tuple[Values, Values, Values]:
    """Return how often each class occurs, is predicted, and is predicted correctly, float64 (R, C) each."""
    counted, classes, named = _counted(weights, targets), probabilities.shape[1], predictions(probabilities)
    right = named == targets
    return (
        _summed(counted, targets, classes),
        _summed(counted, named, classes),
        _summed(counted[:, right], targets[right], classes),
    )


def _summed(counted: Floats, cells: Targets, size: int) -> Values:
    """Return the counts (R, n) summed by the cell (n,) of each image, float64 (R, size)."""
    order = np.argsort(cells, kind="stable")
    present, first = np.unique(cells[order], return_index=True)
    sums = np.zeros((len(counted), size))
    if len(first):
        sums[:, present] = np.add.reduceat(counted[:, order], first, axis=1)
    return sums


def _one_hot(index: Targets, size: int) -> Values:
    return np.eye(size)[index]


def _nanmean(values: Values) -> Values:
    """Return the mean over axis 1 of the defined values, without NumPy's warning for rows that have none."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(defined, values, 0.0).sum(axis=1) / defined.sum(axis=1), dtype=np.float64)
