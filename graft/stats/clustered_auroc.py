"""The area under one ROC curve, with a standard error that holds for groups of images."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata, t

from graft.stats.confidence_intervals import Interval

Values = npt.NDArray[np.float64]


def clustered_auroc(
    scores: Values, positive: npt.NDArray[np.bool_], groups: npt.NDArray[Any], confidence: float = 0.95
) -> Interval:
    """Return the AUROC of scores (n,) with its interval, counted between groups.

    The variance is Obuchowski's (Nonparametric analysis of clustered ROC curve data, Biometrics 1997), which is that of
    DeLong et al. (1988) if every image is its own group. The quantile is Student's, with Satterthwaite's degrees of
    freedom, because a split may hold few groups. The variance counts one more group on each side that is ranked by
    chance, as Agresti and Coull (1998) do for proportions, so that a perfect ranking of few groups is no proof.

    Args:
        scores: higher for positives, float (n,).
        positive: bool (n,); at least two groups have positives, and two have others.
        groups: one name per image, (n,).
        confidence: of the interval.
    """
    hits, misses = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(scores)
    area = float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))
    # The share of the other side that each image is ranked correctly against.
    of_hits = (ranks[positive] - rankdata(scores[positive])) / misses
    of_misses = 1 - (ranks[~positive] - rankdata(scores[~positive])) / hits
    _, of_image = np.unique(groups, return_inverse=True)
    number = int(of_image.max()) + 1
    first = np.bincount(of_image[positive], of_hits - area, number) / hits
    second = np.bincount(of_image[~positive], of_misses - area, number) / misses
    with_hits, with_misses = (len(np.unique(of_image[rows])) for rows in (positive, ~positive))
    if min(with_hits, with_misses) < 2:
        return Interval(area, 0.0, 1.0)
    by_chance = (0.5 - area) ** 2
    of_first = with_hits / (with_hits - 1) * float(first @ first) + by_chance / (with_hits + 1) ** 2
    of_second = with_misses / (with_misses - 1) * float(second @ second) + by_chance / (with_misses + 1) ** 2
    variance = max(of_first + of_second + 2 * number / (number - 1) * float(first @ second), 0.0)
    if variance == 0:
        return Interval(area, area, area)
    freedom = (of_first + of_second) ** 2 / (of_first**2 / (with_hits - 1) + of_second**2 / (with_misses - 1))
    half = float(t.ppf(0.5 + confidence / 2, freedom)) * math.sqrt(variance)
    return Interval(area, max(0.0, area - half), min(1.0, area + half))
