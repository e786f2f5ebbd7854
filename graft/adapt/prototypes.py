"""Pseudo-labels from class prototypes: the nearest centre of the images that the model takes for one class.

After SHOT (Liang et al. 2020): the first centres are means weighted by the model's probabilities, later ones means of
the images that were nearest. A frequent class reaches a little further than a rare one. A class that hardly any image
belongs to is dropped; its few images would otherwise form a centre of their own among another class.
"""

import numpy as np
import numpy.typing as npt

from graft.heads.protocols import Floats, Ints

ROUNDS = 2
LEAST_SHARE = 0.2
"""A class with less than this part of its fair share of the images is dropped."""

PRIOR = 0.05
"""What the logarithm of a class's share adds to the cosine."""


def pseudo_labels(features: npt.NDArray[np.floating], probabilities: Floats, rounds: int = ROUNDS) -> Ints:
    """Return the class of each image's nearest prototype, by the angle, (n,).

    Args:
        features: standardised, (n, D).
        probabilities: of the classes, (n, C): the start.
        rounds: how often centres are computed.
    """
    count, classes = probabilities.shape
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    weights, labels = probabilities, probabilities.argmax(axis=1)
    for _ in range(rounds):
        present = weights.sum(axis=0) >= LEAST_SHARE * count / classes
        if not present.any():
            return np.asarray(labels, dtype=np.int64)
        centres = weights.T @ unit
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
        reach = PRIOR * np.log(np.maximum(weights.sum(axis=0), 1e-12) / count)
        labels = np.where(present, unit @ centres.T + reach, -np.inf).argmax(axis=1)
        weights = np.eye(classes)[labels]
    return np.asarray(labels, dtype=np.int64)
