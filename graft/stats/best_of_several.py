"""How much the best of several variants owes to being the best: the variants of one training resemble one another."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as students_t

DRAWS = 2000


def equivalent_number(
    gains: npt.NDArray[np.floating[Any]], groups: npt.NDArray[Any], size: float, seed: int = 0
) -> float:
    """Return how many independent variants the best of these is as lucky as: from 1, if all are alike, to their number.

    Bonferroni's correction for independent variants costs those that are nearly the same most of their power. Here the
    largest of their t statistics is simulated under the hypothesis that none gains anything, with the correlations
    that they have: each group's deviations get a random sign (a wild bootstrap of White's reality check, Econometrica
    2000, as in Romano and Wolf, Econometrica 2005).

    Args:
        gains: of each image by each variant, float (n, k).
        groups: one name per image, (n,); images of one group are not independent.
        size: how often a useless variant may pass.
        seed: of the signs.
    """
    centred = np.asarray(gains, dtype=np.float64) - gains.mean(axis=0)
    _, of_image = np.unique(groups, return_inverse=True)
    sums = np.zeros((of_image.max() + 1, gains.shape[1]))
    np.add.at(sums, of_image, centred)
    spread = np.sqrt((sums**2).sum(axis=0))
    if gains.shape[1] == 1 or len(sums) < 2 or not spread.any():
        return 1.0
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(DRAWS, len(sums)))
    largest = (signs @ sums / np.where(spread > 0, spread, np.inf)).max(axis=1)
    reached = float(students_t.sf(np.quantile(largest, 1 - size), len(sums) - 1))
    return float(np.clip(size / reached, 1.0, gains.shape[1]))
