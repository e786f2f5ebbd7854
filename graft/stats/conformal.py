"""Conformal prediction: sets that contain the right class as often as stated.

Split conformal prediction with the score 1 - p(right class): Sadinle, Lei and Wasserman, Least Ambiguous Set-Valued
Classifiers with Bounded Error Levels, JASA 2019. The guarantee holds on average, and only over images that are
exchangeable with the validation images; `ood` detects images of something else.
"""

import math

import numpy as np
import numpy.typing as npt

from graft.stats.metrics import Floats, Targets

Sets = npt.NDArray[np.bool_]


def fit_quantile(probabilities: Floats, targets: Targets, coverage: float = 0.9) -> float:
    """Return the score (0 to 1) up to which a class belongs to an image's set, from validation images.

    Args:
        probabilities: (n, C), calibrated or not.
        targets: int64 (n,).
        coverage: how often the set should contain the right class. With fewer than 1 / (1 - coverage) images only the
            set of all classes guarantees it: the score is 1.
    """
    size = len(targets)
    rank = math.ceil((size + 1) * coverage - 1e-9)
    if rank > size:
        return 1.0
    scores = 1.0 - probabilities[np.arange(size), targets]
    return float(np.sort(scores)[rank - 1])


def prediction_sets(probabilities: Floats, quantile: float) -> Sets:
    """Return which classes belong to each image's set, bool (n, C).

    A set is empty if every class is less probable than the right one is on nearly all validation images.
    """
    # A class exactly at the edge belongs to the set; rounding must not drop it.
    return np.asarray(1.0 - probabilities <= quantile + 1e-12, dtype=np.bool_)


def is_ambiguous(sets: Sets) -> npt.NDArray[np.bool_]:
    """Return which images (n,) have no single answer: more than one class is plausible, or none."""
    return np.asarray(sets.sum(axis=1) != 1, dtype=np.bool_)


def covers(sets: Sets, targets: Targets) -> npt.NDArray[np.bool_]:
    """Return whether each set contains the right class, bool (n,)."""
    return np.asarray(sets[np.arange(len(targets)), targets], dtype=np.bool_)
