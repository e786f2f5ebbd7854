"""Two models on the same images: how they differ, and whether the difference is more than chance."""

import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from graft.stats.confidence_intervals import Interval, percentile_interval, resamples, rows_to_resample
from graft.stats.metrics import METRICS, Floats, Metric, Targets, Values, predictions

Outcome = Literal["better", "worse", "no detectable difference"]


class Comparison(NamedTuple):
    """A first model against a second one."""

    differences: dict[str, Interval]
    """First minus second, by metric."""
    only_first_right: int
    only_second_right: int
    p_value: float
    """Of McNemar's exact test."""
    outcome: Outcome
    """Of the first, by accuracy."""


def mcnemar(only_first_right: int, only_second_right: int) -> float:
    """Return the two-sided p-value of McNemar's exact test from the images that only one of two models gets right."""
    discordant = only_first_right + only_second_right
    if discordant == 0:
        return 1.0
    return float(binomtest(only_first_right, discordant).pvalue)


def compare(
    targets: Targets,
    first: Floats,
    second: Floats,
    groups: npt.NDArray[Any] | None = None,
    *,
    metrics: dict[str, Metric] = METRICS,
    count: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    strata: npt.NDArray[np.int64] | None = None,
    correct: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]] | None = None,
) -> Comparison:
    """Compare two models' probabilities (n, C) on the same images: paired bootstrap over groups, McNemar's test.

    A difference is claimed only if both the test and the interval of the accuracy show it: the test assumes independent
    images, and the bootstrap cannot see what is missing from a small sample.

    Args:
        targets: of n images, as the metrics take them; int64 (n,) if there is one label per image.
        first: probabilities of the first model (n, C).
        second: those of the second.
        groups: one name per image; None if all images are independent.
        metrics: by name.
        count: resamples.
        confidence: of each interval.
        seed: of the resampling.
        strata: (n,); every resample keeps their shares; None: the targets.
        correct: which answers of each model are right, (n,) both; None: the most probable class is the target.
    """
    first_right, second_right = correct or (predictions(first) == targets, predictions(second) == targets)
    strata = targets if strata is None else strata
    gained, lost = int((first_right & ~second_right).sum()), int((~first_right & second_right).sum())
    differences = dict(_differences(targets, first, second, groups, strata, metrics, count, confidence, seed))
    if "accuracy" in differences:
        found, matched = differences["accuracy"], matched_proportions(gained, lost, len(targets), confidence)
        differences["accuracy"] = Interval(found.value, min(found.low, matched.low), max(found.high, matched.high))
    p_value = mcnemar(gained, lost)
    return Comparison(differences, gained, lost, p_value, _outcome(differences["accuracy"], p_value, confidence))


def matched_proportions(gained: int, lost: int, total: int, confidence: float = 0.95) -> Interval:
    """Return the difference of two accuracies on the same images; the interval is valid even for few differences.

    Agresti and Min, Simple improved confidence intervals for comparing matched proportions, 2005.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    more, less, size = gained + 0.5, lost + 0.5, total + 2
    centre = (more - less) / size
    half = z * math.sqrt(max(0.0, more + less - (more - less) ** 2 / size)) / size
    value = (gained - lost) / total
    return Interval(value, max(-1.0, min(value, centre - half)), min(1.0, max(value, centre + half)))


def non_inferior(comparison: Comparison, tolerance: float, metric: str = "accuracy") -> bool:
    """Return whether the first model is shown to be at most `tolerance` below the second (higher is better).

    This needs evidence: with few images the interval is wide, and a model that may be worse does not pass.
    """
    return comparison.differences[metric].low >= -tolerance


def _differences(
    targets: Targets,
    first: Floats,
    second: Floats,
    groups: npt.NDArray[Any] | None,
    strata: npt.NDArray[np.int64],
    metrics: dict[str, Metric],
    count: int,
    confidence: float,
    seed: int,
) -> Iterator[tuple[str, Interval]]:
    drawn: dict[str, list[Values]] = {name: [] for name in metrics}
    groups = np.arange(len(targets)) if groups is None else groups
    part, wider = rows_to_resample(groups, strata, seed)
    truth, one, other = targets[part], first[part], second[part]
    for weights in resamples(groups[part], strata[part], count, seed):
        for name, metric in metrics.items():
            drawn[name].append(metric(truth, one, weights) - metric(truth, other, weights))
    for name, metric in metrics.items():
        value = float(metric(targets, first, None)[0] - metric(targets, second, None)[0])
        yield name, percentile_interval(value, np.concatenate(drawn[name]), confidence, wider)


def _outcome(accuracy: Interval, p_value: float, confidence: float) -> Outcome:
    if p_value < 1 - confidence and accuracy.low > 0:
        return "better"
    if p_value < 1 - confidence and accuracy.high < 0:
        return "worse"
    return "no detectable difference"
