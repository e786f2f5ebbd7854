"""A model beside others on the same photos: one score per photo, its mean with an interval, and the paired gain."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from graft.dense.pixel_scores import Score
from graft.masks.scores import mean_interval
from graft.params.evaluate import EvaluateParams

USED_PARAMS = ("bootstrap", "confidence", "learning_curve", "explain", "random_init", "seed")
Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.object_]
Rows = npt.NDArray[np.int64]


def mean_score(values: Floats, groups: Groups, params: EvaluateParams) -> Score:
    """Return the mean of a score of each photo (n,) with its bootstrap interval over groups of photos."""
    return Score.of(mean_interval(values, groups, params.bootstrap, params.confidence, params.seed))


def beside(
    own: Floats, rivals: Mapping[str, Floats], groups: Groups, params: EvaluateParams
) -> tuple[dict[str, Score], dict[str, Score]]:
    """Return the score of each rival, and the gain over it, photo by photo.

    Args:
        own: score of each photo by the model.
        rivals: the same by each other model, of all photos or of the first ones.
        groups: of the photos.
        params: of the step.
    """
    scores = {name: mean_score(rival, groups[: len(rival)], params) for name, rival in rivals.items()}
    gains = {
        name: mean_score(own[: len(rival)] - rival, groups[: len(rival)], params) for name, rival in rivals.items()
    }
    return scores, gains


def rows_for_random_weights(train: Rows, test: Rows, most: int, params: EvaluateParams) -> tuple[Rows, Rows]:
    """Return the photos of the comparison with random weights: the first ones only if it was not asked for."""
    return (train, test) if params.random_init is True else (train[:most], test[:most])
