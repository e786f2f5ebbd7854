"""Metrics of independent labels, any number for each image; with the arguments and shapes of `metrics`.

Targets are 0 and 1, (n, k), probabilities (n, k). Labels that a resample leaves undefined are left out of means.
"""

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from graft.stats.metrics import Floats, Metric, Values, mean_by_resample
from graft.stats.ranking_metrics import precision_area, rankings

Flags = npt.NDArray[Any]
"""0 and 1, (n, k)."""
SMALLEST = 1e-12


def mean_average_precision(targets: Flags, probabilities: Floats, weights: Floats | None = None) -> Values:
    """Return the mean over labels of the average precision, as scikit-learn defines it (macro mAP)."""
    counted = _counted(weights, targets)
    areas = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for label in range(targets.shape[1]):
            marked = np.where(targets[:, label] > 0, label, -1).astype(np.int64)
            (ranking,) = rankings(marked, probabilities, counted, [label])
            areas.append(precision_area(ranking))
    return _mean_of_defined(np.stack(areas, axis=1))


def exact_match(targets: Flags, probabilities: Floats, weights: Floats | None = None, *, thresholds: Values) -> Values:
    """Return the share of images with exactly the right labels."""
    right = ((probabilities >= thresholds) == (targets > 0)).all(axis=1)
    return mean_by_resample(right, weights)


def micro_f1(targets: Flags, probabilities: Floats, weights: Floats | None = None, *, thresholds: Values) -> Values:
    """Return F1 over all labels of all images together."""
    hits, named, present = _label_counts(targets, probabilities, weights, thresholds)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(2 * hits.sum(axis=1) / (named.sum(axis=1) + present.sum(axis=1)), dtype=np.float64)


def macro_f1(targets: Flags, probabilities: Floats, weights: Floats | None = None, *, thresholds: Values) -> Values:
    """Return the mean F1 of the labels that have images or answers."""
    hits, named, present = _label_counts(targets, probabilities, weights, thresholds)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _mean_of_defined(2 * hits / (named + present))


def coverage_error(targets: Flags, probabilities: Floats, weights: Floats | None = None) -> Values:
    """Return how many of the most probable labels it takes on average to include all that an image has."""
    lowest = np.where(targets > 0, probabilities, np.inf).min(axis=1, keepdims=True)
    taken = (probabilities >= lowest).sum(axis=1)
    return mean_by_resample(taken, weights)


def log_loss(targets: Flags, probabilities: Floats, weights: Floats | None = None) -> Values:
    """Return the mean over images of the sum of their labels' negative log probabilities."""
    sure = np.clip(np.asarray(probabilities, dtype=np.float64), SMALLEST, 1 - SMALLEST)
    return mean_by_resample(-np.log(np.where(targets > 0, sure, 1 - sure)).sum(axis=1), weights)


def tag_metrics(thresholds: Values) -> dict[str, Metric]:
    """Return the metrics of labels that are answered from these probabilities on, (k,)."""
    return {
        "accuracy": partial(exact_match, thresholds=thresholds),
        "mean_average_precision": mean_average_precision,
        "macro_f1": partial(macro_f1, thresholds=thresholds),
        "micro_f1": partial(micro_f1, thresholds=thresholds),
        "coverage_error": coverage_error,
        "log_loss": log_loss,
    }


def _counted(weights: Floats | None, targets: Flags) -> Floats:
    return np.ones((1, len(targets))) if weights is None else weights


def _label_counts(
    targets: Flags, probabilities: Floats, weights: Floats | None, thresholds: Values
) -> tuple[Values, Values, Values]:
    """Return the true positives, predicted positives and positives of every label, float64 (R, k) each."""
    counted, named, present = _counted(weights, targets), probabilities >= thresholds, targets > 0
    hits, named_often, there = (
        np.asarray(counted @ flags.astype(np.float64), dtype=np.float64) for flags in (named & present, named, present)
    )
    return hits, named_often, there


def _mean_of_defined(values: Values) -> Values:
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(defined, values, 0.0).sum(axis=1) / defined.sum(axis=1), dtype=np.float64)
