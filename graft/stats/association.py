"""How far two categorical variables go together: Cramer's V with a bootstrap interval over groups. NumPy alone."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from graft.stats.confidence_intervals import Interval, percentile_interval, resamples

Ints = npt.NDArray[np.int64]
RESAMPLES = 200


class Association(NamedTuple):
    """Two variables of the same images."""

    interval: Interval
    """Cramer's V: 0 independent, 1 one determines the other."""
    determined: bool
    """Whether on these images one variable is a function of the other."""


def cramers_v(
    first: Ints, second: Ints, groups: npt.NDArray[Any], *, confidence: float = 0.95, seed: int = 0
) -> Association:
    """Return Cramer's V (1946) of two variables.

    Args:
        first: values (n,), counted from 0.
        second: values (n,).
        groups: one name per image: a resample takes whole groups.
        confidence: of the interval.
        seed: of the resampling.
    """
    rows, columns = int(first.max()) + 1, int(second.max()) + 1
    cells = first * columns + second
    of_cell = np.zeros((len(first), rows * columns))
    of_cell[np.arange(len(first)), cells] = 1.0
    whole = of_cell.sum(axis=0).reshape(1, rows, columns)
    strata = np.zeros(len(first), np.int64)
    drawn = [
        _v((weights @ of_cell).reshape(-1, rows, columns)) for weights in resamples(groups, strata, RESAMPLES, seed)
    ]
    value = float(_v(whole)[0])
    interval = percentile_interval(value, np.concatenate(drawn), confidence)
    present = whole[0] > 0
    determined = min(present.shape) > 1 and bool((present.sum(axis=0) == 1).all() or (present.sum(axis=1) == 1).all())
    return Association(interval, determined)


def _v(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return Cramer's V of tables (R, rows, columns), (R,); 0 where a variable has one value."""
    total = counts.sum(axis=(1, 2))
    by_row, by_column = counts.sum(axis=2), counts.sum(axis=1)
    expected = by_row[:, :, None] * by_column[:, None, :] / total[:, None, None]
    chi = np.divide((counts - expected) ** 2, expected, out=np.zeros_like(counts), where=expected > 0).sum(axis=(1, 2))
    least = np.minimum((by_row > 0).sum(axis=1), (by_column > 0).sum(axis=1)) - 1
    ratio = np.divide(chi, total * least, out=np.zeros_like(chi), where=least > 0)
    return np.asarray(np.sqrt(np.minimum(ratio, 1.0)), dtype=np.float64)
