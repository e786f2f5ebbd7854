"""Label propagation over the nearest neighbours of the target's images (Zhou et al., NIPS 2004).

It answers for the images at hand alone and has no weights. So it is not a method to serve with, but a second opinion
for backbones without BatchNorm, which have only one view.
"""

import numpy as np
import numpy.typing as npt

from graft.heads.protocols import Floats

NEIGHBOURS = 10
KEPT = 0.9
"""How much of an image's answer comes from its neighbours."""
STEPS = 50


def propagated(features: npt.NDArray[np.floating], start: Floats, neighbours: int = NEIGHBOURS) -> Floats:
    """Return probabilities (n, C) after each image has taken up those of its neighbours.

    Args:
        features: standardised, (n, D).
        start: probabilities without neighbours, (n, C).
        neighbours: how many of the nearest, by the angle, an image is linked to.
    """
    count = len(features)
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    near = unit @ unit.T
    np.fill_diagonal(near, -np.inf)
    nearest = np.argpartition(-near, min(neighbours, count - 1) - 1, axis=1)[:, :neighbours]
    links = np.zeros((count, count))
    np.put_along_axis(links, nearest, 1.0, axis=1)
    links = np.maximum(links, links.T)
    degree = np.maximum(links.sum(axis=1), 1.0)
    links /= np.sqrt(np.outer(degree, degree))
    answers = start
    for _ in range(STEPS):
        answers = KEPT * links @ answers + (1 - KEPT) * start
    return np.asarray(answers / answers.sum(axis=1, keepdims=True), dtype=np.float64)
