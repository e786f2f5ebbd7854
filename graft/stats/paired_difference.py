"""The mean of a paired difference and its standard error: what every "one standard error" of a choice rests on.

Two models predict the same images, so the error of their difference is far smaller than that of either loss. Images of
one group (a video, a patient, near-duplicates) tend to change together, so the error is counted between groups.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


class PairedDifference(NamedTuple):
    """How much lower a loss is after a change than before it."""

    gain: float
    """Mean of before minus after: positive if the loss fell."""
    error: float
    """Standard error of `gain`; infinite if all images are of one group."""


def paired_difference(before: Floats, after: Floats, groups: npt.NDArray[Any] | None = None) -> PairedDifference:
    """Return the mean of `before - after` over images, with its cluster-robust standard error.

    The variance is `G / (G - 1) * sum_g (sum_i of g (d_i - mean))^2 / n^2` over G groups (Liang and Zeger, Biometrika
    1986, with the usual correction for few groups). If every image is its own group, that is the ordinary error of a
    mean.

    Args:
        before: a loss of each image, float (n,).
        after: the same images' losses after the change, float (n,).
        groups: one name per image, (n,); None if all images are independent.

    Raises:
        ValueError: without any image.
    """
    difference = np.asarray(before, dtype=np.float64) - np.asarray(after, dtype=np.float64)
    if len(difference) == 0:
        raise ValueError("a paired difference needs at least one image")
    gain = float(difference.mean())
    return PairedDifference(gain, mean_error(difference, groups))


def mean_error(values: Floats, groups: npt.NDArray[Any] | None = None) -> float:
    """Return the cluster-robust standard error of the mean of values (n,), as `paired_difference` describes it.

    Args:
        values: float (n,), at least one.
        groups: one name per value, (n,); None if all are independent.
    """
    residuals = np.asarray(values, dtype=np.float64) - np.mean(values)
    if groups is not None:
        _, of_value = np.unique(groups, return_inverse=True)
        residuals = np.bincount(of_value, weights=residuals)
    number = len(residuals)
    if number < 2:
        return math.inf
    return float(np.sqrt(number / (number - 1) * np.sum(residuals**2)) / len(values))
