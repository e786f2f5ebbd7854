"""A model's metrics in every bootstrap resample of the images: computed once, then used for every interval about it.

All models are measured in the same resamples, so the difference of two models is the difference of their values.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from graft.stats.confidence_intervals import (
    UNDEFINED,
    Interval,
    percentile_interval,
    proportion,
    resamples,
    rows_to_resample,
)
from graft.stats.metrics import (
    METRICS,
    Floats,
    Metric,
    RankingMetric,
    Targets,
    Values,
    predictions,
    ranking_values,
)
from graft.stats.unseen_mistakes import NOTHING, UnseenMistakes, independent_images, unseen_mistakes

UNBOUNDED = frozenset({"log_loss", "brier", "coverage_error"})


@dataclass(frozen=True)
class Resampled:
    """The metrics of one model on n images."""

    values: Mapping[str, float]
    """On the images themselves, by metric."""
    drawn: Mapping[str, Values]
    """In each of R resamples, (R,)."""
    wider: float
    """How much wider an interval of the resamples is than the right one, see `rows_to_resample`."""
    unseen: UnseenMistakes = NOTHING
    """What mistakes that the images do not show may do; an interval reaches at least as far."""

    def interval(self, metric: str, confidence: float) -> Interval:
        """Return a metric with its interval."""
        found = percentile_interval(self.values[metric], self.drawn[metric], confidence, self.wider)
        return _reaching(found, self.unseen.reach(metric))

    def difference(self, other: "Resampled", metric: str, confidence: float) -> Interval:
        """Return how much higher a metric is than another model's, on the same images, with its interval."""
        value = self.values[metric] - other.values[metric]
        found = percentile_interval(value, self.drawn[metric] - other.drawn[metric], confidence, self.wider)
        found = _reaching(found, self.unseen.reach_of_difference(other.unseen, metric))
        if metric in UNBOUNDED or math.isnan(value):
            return found
        return Interval(value, max(-1.0, found.low), min(1.0, found.high))


def _reaching(found: Interval, reach: tuple[float, float]) -> Interval:
    return Interval(found.value, min(found.low, found.value - reach[0]), max(found.high, found.value + reach[1]))


def resampled_metrics(
    targets: Targets,
    probabilities: Floats,
    groups: npt.NDArray[Any] | None,
    strata: npt.NDArray[np.int64],
    *,
    metrics: Mapping[str, Metric],
    count: int,
    seed: int,
    confidence: float = 0.95,
) -> Resampled:
    """Measure a model in `count` resamples of groups of images (see `confidence_intervals.resamples`).

    Args:
        targets: of n images, as the metrics take them.
        probabilities: float (n, C).
        groups: one name per image; None if all images are independent.
        strata: (n,); every resample keeps their shares.
        metrics: by name.
        count: number of resamples R.
        seed: of the resampling.
        confidence: of the intervals, for what the images do not show (see `unseen_mistakes`); with one label per image.
    """
    names = np.arange(len(targets)) if groups is None else groups
    part, wider = rows_to_resample(names, strata, seed)
    truth, predicted = targets[part], probabilities[part]
    # AUROC and average precision count the same ranking.
    ranking = {name: metric for name, metric in metrics.items() if isinstance(metric, RankingMetric)}
    drawn: dict[str, list[Values]] = {name: [] for name in metrics}
    for weights in resamples(names[part], strata[part], count, seed):
        for name, found in ranking_values(ranking, truth, predicted, weights).items():
            drawn[name].append(found)
        for name in metrics.keys() - ranking.keys():
            drawn[name].append(metrics[name](truth, predicted, weights))
    values = {name: float(found[0]) for name, found in ranking_values(ranking, targets, probabilities).items()}
    values |= {name: float(metrics[name](targets, probabilities, None)[0]) for name in metrics.keys() - ranking.keys()}
    unseen = NOTHING
    if targets.ndim == 1:
        sizes = independent_images(targets, probabilities, groups)
        unseen = unseen_mistakes(truth, predicted, sizes, metrics, confidence)
    return Resampled(values, {name: np.concatenate(found) for name, found in drawn.items()}, wider, unseen)


def metric_intervals(
    targets: Targets,
    probabilities: Floats,
    groups: npt.NDArray[Any] | None = None,
    *,
    metrics: dict[str, Metric] = METRICS,
    count: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    strata: npt.NDArray[np.int64] | None = None,
    correct: npt.NDArray[np.bool_] | None = None,
    resampled: Resampled | None = None,
) -> dict[str, Interval]:
    """Return every metric with its interval: Wilson for the accuracy, the bootstrap over groups for the others.

    Args:
        targets: of n images, as the metrics take them; int64 (n,) if there is one label per image.
        probabilities: float (n, C).
        groups: one name per image; None if all images are independent.
        metrics: by name; intervals of metrics in [0, 1] stay there.
        count: resamples.
        confidence: of each interval.
        seed: of the resampling.
        strata: (n,); every resample keeps their shares; None: the targets.
        correct: which answers are right, (n,); None: the most probable class is the target.
        resampled: the metrics in such resamples, if they are known; None: computed here.
    """
    if len(targets) == 0:
        return dict.fromkeys(metrics, UNDEFINED)
    bootstrapped = {name: metric for name, metric in metrics.items() if name != "accuracy"}
    if resampled is None:
        strata = targets if strata is None else strata
        resampled = resampled_metrics(
            targets, probabilities, groups, strata, metrics=bootstrapped, count=count, seed=seed, confidence=confidence
        )
    found = {}
    for name in metrics:
        if name == "accuracy":
            right = predictions(probabilities) == targets if correct is None else correct
            found[name] = proportion(right, groups, confidence)
        else:
            value, low, high = resampled.interval(name, confidence)
            if math.isnan(value):
                found[name] = UNDEFINED
                continue
            top = math.inf if name in UNBOUNDED else 1.0
            found[name] = Interval(value, max(0.0, low), min(max(top, value), high))
    return found
