"""Two models on the same images: how they differ, and whether the difference is more than chance."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import t as students_t

from graft.stats.confidence_intervals import Interval
from graft.stats.metrics import METRICS, Floats, Metric, Targets, predictions
from graft.stats.paired_difference import mean_error
from graft.stats.resampled_metrics import Resampled, resampled_metrics

Outcome = Literal["better", "worse", "no detectable difference", "identical"]
POWER = 0.8
"""How often a test should notice a difference that is called detectable."""
SMALLEST_STEP = 1e-9


class Comparison(NamedTuple):
    """A first model against a second one."""

    differences: dict[str, Interval]
    """First minus second, by metric."""
    only_first_right: int
    only_second_right: int
    p_value: float
    """Of equal accuracy, from the test that gives the accuracy's interval: below 1 - confidence if, and only if, that
    interval excludes zero."""
    outcome: Outcome
    """Of the first, by accuracy; `identical` if every answer is the same."""
    detectable: float
    """The smallest difference of accuracies that a test on these images notices in four of five cases."""


class PairedRates(NamedTuple):
    """The difference of two rates on the same images, with the interval and the p-value of one test."""

    difference: Interval
    p_value: float
    detectable: float


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
    same: npt.NDArray[np.bool_] | None = None,
    resampled: tuple[Resampled, Resampled] | None = None,
) -> Comparison:
    """Compare two models' probabilities (n, C) on the same images: accuracies by a score test, the rest by bootstrap.

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
        same: for which images both models give the same answer, (n,); None: the same class is the most probable one.
        resampled: the metrics of both models in the same resamples, if they are known; None: computed here.
    """
    first_right, second_right = correct or (predictions(first) == targets, predictions(second) == targets)
    same = predictions(first) == predictions(second) if same is None else same
    if resampled is None:
        strata = targets if strata is None else strata
        drawn = {name: metric for name, metric in metrics.items() if name != "accuracy"}
        one, other = (
            resampled_metrics(
                targets, found, groups, strata, metrics=drawn, count=count, seed=seed, confidence=confidence
            )
            for found in (first, second)
        )
    else:
        one, other = resampled
    rates = paired_rates(first_right, second_right, groups, confidence)
    differences = {
        name: rates.difference if name == "accuracy" else one.difference(other, name, confidence) for name in metrics
    }
    return Comparison(
        differences,
        int((first_right & ~second_right).sum()),
        int((~first_right & second_right).sum()),
        rates.p_value,
        "identical" if same.all() else _outcome(rates.difference),
        rates.detectable,
    )


def paired_rates(
    first: npt.NDArray[np.bool_],
    second: npt.NDArray[np.bool_],
    groups: npt.NDArray[Any] | None = None,
    confidence: float = 0.95,
) -> PairedRates:
    """Return how much more often the first of two models is right (n,), by a score test and its inversion.

    At a difference of zero the statistic is McNemar's, so interval and p-value cannot contradict each other. The
    interval is valid for few differing images and for none (Tango, Statistics in Medicine 1998). Images of one group
    carry less information: all counts are divided by the design effect of the paired difference, and the reference is
    Student's t with a degree of freedom for each group but one.
    """
    total = len(first)
    value = float(first.mean() - second.mean())
    effect, clusters = _design_effect(first.astype(np.float64) - second, groups)
    gained, lost = float((first & ~second).sum()) / effect, float((~first & second).sum()) / effect
    size = total / effect
    freedom = max(1, clusters - 1)
    critical = float(students_t.ppf(0.5 + confidence / 2, freedom))
    low = _crossing(lambda at: _score(gained, lost, size, at) - critical)
    high = _crossing(lambda at: _score(gained, lost, size, at) + critical)
    statistic = (gained - lost) / math.sqrt(gained + lost) if gained + lost else 0.0
    p_value = float(2 * students_t.sf(abs(statistic), freedom))
    interval = Interval(value, min(value, low), max(value, high))
    return PairedRates(interval, p_value, _detectable((gained + lost) / size, size, critical))


def non_inferior(comparison: Comparison, tolerance: float, metric: str = "accuracy") -> bool:
    """Return whether the first model is shown to be at most `tolerance` below the second (higher is better).

    This needs evidence: with few images the interval is wide, and a model that may be worse does not pass.
    """
    return comparison.differences[metric].low >= -tolerance


def _design_effect(difference: npt.NDArray[np.float64], groups: npt.NDArray[Any] | None) -> tuple[float, int]:
    """Return by how much groups enlarge the variance of a mean difference (n,), at least 1, and their number."""
    total = len(difference)
    clusters = total if groups is None else len(np.unique(groups))
    if clusters == total:
        return 1.0, total
    independent = mean_error(difference) ** 2
    if clusters == 1 or not independent > 0:
        return total / clusters, clusters
    return float(np.clip(mean_error(difference, groups) ** 2 / independent, 1.0, total)), clusters


def _score(gained: float, lost: float, size: float, at: float) -> float:
    """Return Tango's score statistic of the hypothesis that the difference is `at`; it falls as `at` grows."""
    linear = (2 * size - gained + lost) * at - gained - lost
    constant = -lost * at * (1 - at)
    share = (math.sqrt(max(0.0, linear**2 - 8 * size * constant)) - linear) / (4 * size)
    variance = size * (2 * share + at * (1 - at))
    distance = gained - lost - size * at
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def _crossing(falling: Callable[[float], float], low: float = -1.0, high: float = 1.0) -> float:
    """Return where a falling function passes zero."""
    while high - low > SMALLEST_STEP:
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


def _detectable(discordant: float, size: float, critical: float) -> float:
    """Return the smallest difference that is noticed with `POWER` (Connor, Biometrics 1987), at most 1.

    Args:
        discordant: share of images that only one model gets right; a difference needs at least as large a share.
        size: effective number of images.
        critical: value of the test statistic from which on a difference is claimed.
    """
    wanted = float(students_t.ppf(POWER, np.inf))

    def lacking(difference: float) -> float:
        share = max(discordant, difference)
        spread = critical * math.sqrt(share) + wanted * math.sqrt(max(0.0, share - difference**2))
        return spread - math.sqrt(size) * difference

    return _crossing(lacking, low=SMALLEST_STEP)


def _outcome(accuracy: Interval) -> Outcome:
    if accuracy.low > 0:
        return "better"
    return "worse" if accuracy.high < 0 else "no detectable difference"
