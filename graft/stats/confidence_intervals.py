"""Confidence intervals: Wilson intervals for proportions, the bootstrap for everything else.

Images of one group (near-duplicates, one patient, one video) carry less information than the same number of independent
images. So the bootstrap draws groups, and the Wilson interval uses the effective sample size.
"""

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import t

from graft.stats.metrics import Floats, Values
from graft.stats.paired_difference import mean_error
from graft.stats.subsampling import sample

CHUNK_CELLS = 500_000
"""Resampled counts held in memory at a time: 4 MB."""
MOST_RESAMPLED = 10_000
"""Most images that a bootstrap draws from; from a larger set it takes a sample."""


class Interval(NamedTuple):
    """An estimate and the interval around it."""

    value: float
    low: float
    high: float

    def json(self) -> dict[str, float | None]:
        """Return plain JSON; undefined numbers become null."""
        return {name: None if math.isnan(number) else float(number) for name, number in self._asdict().items()}


UNDEFINED = Interval(math.nan, math.nan, math.nan)


def wilson(successes: float, total: float, confidence: float = 0.95) -> Interval:
    """Return the Wilson score interval of a proportion (Wilson, JASA 1927): valid at 0 and 1, NaN without trials.

    The effective size of grouped images is a fraction (see `proportion`); SciPy's `binomtest` takes integers only.
    """
    if total <= 0:
        return UNDEFINED
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / total
    centre = (rate + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(rate * (1 - rate) / total + z * z / (4 * total * total))
    return Interval(rate, max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half)))


def proportion(
    hits: npt.NDArray[np.bool_], groups: npt.NDArray[Any] | None = None, confidence: float = 0.95
) -> Interval:
    """Return the Wilson interval of a rate (n,), at the effective size of the sample given its groups.

    See `effective_size`. A group that holds all images says nothing: its interval is that of one image.
    """
    total = len(hits)
    if total == 0:
        return UNDEFINED
    size = float(total) if groups is None else effective_size(hits, groups)
    rate = float(hits.mean())
    return wilson(rate * size, size, confidence)._replace(value=rate)


def effective_size(hits: npt.NDArray[np.bool_], groups: npt.NDArray[Any]) -> float:
    """Return how many independent images tell as much about a rate (n,) as these images of groups do.

    That is n over the design effect, the variance between groups relative to independent images (Kish 1965). If all
    images are hits, or none is, their groups count as one image each.
    """
    _, of_image = np.unique(groups, return_inverse=True)
    number, total, rate = int(of_image.max()) + 1, len(hits), float(hits.mean())
    if number == total:
        return float(total)
    if rate in (0.0, 1.0) or number == 1:
        return float(number)
    between = mean_error(hits.astype(np.float64), groups) ** 2
    return float(np.clip(rate * (1 - rate) / between, 1.0, total)) if between > 0 else float(total)


def resamples(
    groups: npt.NDArray[Any], strata: npt.NDArray[Any], count: int, seed: int = 0
) -> Iterator[npt.NDArray[np.float64]]:
    """Yield how often each image (n,) is drawn in each of `count` resamples, in chunks (R, n); fixed by the seed.

    Groups are drawn as a whole, with replacement, and each stratum keeps its number of groups. A group belongs to the
    stratum of its first image.
    """
    names, first, of_image = np.unique(groups, return_index=True, return_inverse=True)
    _, of_group = np.unique(strata[first], return_inverse=True)
    members = [np.flatnonzero(of_group == stratum) for stratum in range(of_group.max(initial=-1) + 1)]
    generator = np.random.default_rng(seed)
    at_once = max(1, CHUNK_CELLS // max(1, len(groups)))
    for start in range(0, count, at_once):
        rows = min(at_once, count - start)
        # Images vary slowest in memory, because the ranking metrics pick rows of the transpose.
        drawn = np.zeros((len(names), rows))
        for group in members:
            picks = generator.integers(0, len(group), (rows, len(group)))
            cells = (picks + np.arange(rows)[:, None] * len(group)).ravel()
            drawn[group] = np.bincount(cells, minlength=rows * len(group)).reshape(rows, len(group)).T
        yield drawn[of_image].T


def bootstrap(
    statistic: Callable[[Floats | None], Values], draws: Iterator[Floats], confidence: float = 0.95
) -> Interval:
    """Return a statistic with its percentile interval over the resamples (Efron and Tibshirani 1993).

    The resamples are shifted by the distance between their mean and the estimate. A calibration error, for example, is
    larger in every resample than in the sample, and an interval that lies above its own estimate helps no one.
    """
    return percentile_interval(float(statistic(None)[0]), np.concatenate([statistic(w) for w in draws]), confidence)


def rows_to_resample(
    groups: npt.NDArray[Any], strata: npt.NDArray[np.int64], seed: int = 0
) -> tuple[npt.NDArray[np.int64], float]:
    """Return which of n images to resample, and by what to divide their interval to get that of all images.

    Up to ten thousand images are all taken. From more, ten thousand are sampled in complete groups, with each stratum's
    share. Intervals of any estimate that is made of averages shrink with the root of the number of images, so the
    interval of a sample gives that of all (m out of n: Bickel, Goetze and van Zwet, Statistica Sinica 1997).

    The divisor is below 1 if there are few groups: resampling them keeps their own mean, so their spread is too small,
    and normal quantiles stand for Student's (Hesterberg, The American Statistician 2015).
    """
    rows = sample(strata, groups, MOST_RESAMPLED, f"{seed} bootstrap")
    if not len(rows):
        return rows, 1.0
    names, first = np.unique(groups[rows], return_index=True)
    freedom = max(1, len(names) - len(np.unique(strata[rows][first])))
    students, normal = t.ppf(0.975, freedom), NormalDist().inv_cdf(0.975)
    narrow = math.sqrt(len(names) / freedom) * float(students) / normal
    return rows, math.sqrt(len(groups) / len(rows)) / narrow


def percentile_interval(value: float, resampled: Values, confidence: float = 0.95, wider: float = 1.0) -> Interval:
    """Return the interval of an estimate from its values (R,) in resamples, as `bootstrap` does.

    Args:
        value: the estimate.
        resampled: its values in the resamples.
        confidence: of the interval.
        wider: how much wider the interval of the resamples is than the right one, see `rows_to_resample`.
    """
    defined = resampled[~np.isnan(resampled)]
    if math.isnan(value) or len(defined) == 0:
        return Interval(value, math.nan, math.nan)
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail]) + value - defined.mean()
    if wider != 1:
        low, high = value + (low - value) / wider, value + (high - value) / wider
    return Interval(value, min(value, float(low)), max(value, float(high)))
