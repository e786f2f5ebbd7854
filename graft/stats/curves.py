"""Curves behind the numbers: ROC, precision and recall, reliability. NumPy alone; scikit-learn's definitions."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graft.stats.confidence_intervals import Interval, wilson
from graft.stats.metrics import ECE_BINS, Floats, Targets, Values, confidence_bins, predictions

Flags = npt.NDArray[np.bool_]


class Roc(NamedTuple):
    """Rates (t,) from the strictest threshold to the loosest."""

    false_positive_rate: Values
    true_positive_rate: Values
    thresholds: Values


class PrecisionRecall(NamedTuple):
    """Rates (t,) from the strictest threshold to the loosest."""

    precision: Values
    recall: Values
    thresholds: Values


class Reliability(NamedTuple):
    """One entry per confidence bin that has images."""

    confidence: list[float]
    """Mean probability of the answers."""
    right: list[Interval]
    """Share of right answers."""
    images: list[int]


def roc(positive: Flags, score: Floats) -> Roc:
    """Return the ROC curve of scores (n,), starting at (0, 0); a rate over no images is NaN."""
    hits, selected, thresholds = _by_threshold(positive, score)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Roc(
            np.concatenate([[0.0], (selected - hits) / (selected[-1] - hits[-1])]),
            np.concatenate([[0.0], hits / hits[-1]]),
            np.concatenate([[np.inf], thresholds]),
        )


def precision_recall(positive: Flags, score: Floats) -> PrecisionRecall:
    """Return precision and recall of scores (n,) at every threshold; recall is NaN without positives."""
    hits, selected, thresholds = _by_threshold(positive, score)
    with np.errstate(invalid="ignore", divide="ignore"):
        return PrecisionRecall(hits / selected, hits / hits[-1], thresholds)


def reliability(targets: Targets, probabilities: Floats, confidence: float = 0.95) -> Reliability:
    """Return how often answers of each confidence are right, in 15 bins of equal width."""
    confidences, right = probabilities.max(axis=1), predictions(probabilities) == targets
    bins = confidence_bins(confidences)
    held = [np.flatnonzero(bins == number) for number in range(ECE_BINS) if (bins == number).any()]
    return Reliability(
        [float(confidences[rows].mean()) for rows in held],
        [wilson(int(right[rows].sum()), len(rows), confidence) for rows in held],
        [len(rows) for rows in held],
    )


def confusion_order(matrix: npt.NDArray[np.int64]) -> list[int]:
    """Return an order of the classes (C,) that puts classes that are confused with each other side by side."""
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering  # takes a second, not always needed
    from scipy.spatial.distance import squareform

    if len(matrix) < 3:
        return list(range(len(matrix)))
    rates = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    distance = 1.0 - np.clip((rates + rates.T) / 2, 0.0, 1.0)
    np.fill_diagonal(distance, 0.0)
    condensed = squareform(distance, checks=False)
    return [int(i) for i in leaves_list(optimal_leaf_ordering(linkage(condensed, "average"), condensed))]


def _by_threshold(positive: Flags, score: Floats) -> tuple[Values, Values, Values]:
    """Return the positives and the images at or above each distinct score, from the highest down."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    hits = np.cumsum(positive[order])[last].astype(np.float64)
    return hits, (last + 1).astype(np.float64), ranked[last].astype(np.float64)
