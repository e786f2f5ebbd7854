"""Simulated answers: probabilities that are exactly right, labels drawn from them, and groups that agree."""

import numpy as np
import numpy.typing as npt

from graft.stats.metrics import softmax

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def labelled(images: int, classes: int, generator: np.random.Generator, spread: float = 2.0) -> tuple[Floats, Ints]:
    """Return the logits (n, C) of the true probabilities of n images, and labels (n,) drawn from them."""
    logits = generator.normal(scale=spread, size=(images, classes))
    cumulative = softmax(logits).cumsum(axis=1)
    return logits, (generator.random((images, 1)) > cumulative[:, :-1]).sum(axis=1)


def hits(groups: int, frames: int, rate: float, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return whether each image (groups * frames,) is a hit; each group has a rate of its own, `rate` on average."""
    rates = generator.beta(4 * rate, 4 * (1 - rate), groups)
    return generator.random(groups * frames) < np.repeat(rates, frames)


def one_hot(right: npt.NDArray[np.bool_], targets: Ints) -> Floats:
    """Return the probabilities (n, 2) of a model that is right on these images."""
    return np.eye(2)[np.where(right, targets, 1 - targets)] * 0.8 + 0.1
