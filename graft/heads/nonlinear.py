"""Shared code of the non-linear heads: their training images, the scale of features, the loss."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from graft.core.row_blocks import read_rows
from graft.heads.linear_probe import standardisation
from graft.heads.protocols import Floats, TrainingSet
from graft.stats.subsampling import evenly_spaced

MOST_IMAGES = 20_000
"""Most training images, evenly spaced if there are more: a bound for memory and time."""


class TrainingArrays(NamedTuple):
    """The training images in memory."""

    features: npt.NDArray[np.floating]
    """(n, d)"""
    one_hot: Floats
    """(n, classes)"""
    weight: Floats
    """(n,), summing to one; only nearly so for a subset of images with different weights."""


def training_arrays(images: TrainingSet) -> TrainingArrays:
    """Return all images, or evenly spaced ones if there are more than `MOST_IMAGES`."""
    rows = evenly_spaced(len(images.targets), MOST_IMAGES)
    features = images.features[rows] if isinstance(images.features, np.ndarray) else read_rows(images.features, rows)
    weight = np.ones(len(rows)) if images.sample_weight is None else images.sample_weight[rows]
    return TrainingArrays(features, np.eye(images.task.outputs)[images.targets[rows]], weight / len(rows))


def tap_scale(features: npt.NDArray[np.floating], widths: Sequence[int] | None = None) -> tuple[Floats, Floats]:
    """Return mean and scale (d,) of every feature: standard deviations, adjusted so that every tap counts the same.

    Args:
        features: (n, d).
        widths: number of features of each tap, where several are concatenated.
    """
    mean, spread = standardisation(features, widths)
    if not widths:
        return mean, spread
    return mean, spread * np.sqrt(np.repeat(widths, widths) * len(widths) / sum(widths))


def cross_entropy(logits: Floats, one_hot: Floats, weight: Floats) -> tuple[float, Floats]:
    """Return the cross-entropy with image weights (n,), and its gradient by the logits (n, classes)."""
    log_p = log_softmax(logits, axis=1)
    value = -(weight @ (one_hot * log_p).sum(1))
    return float(value), (np.exp(log_p) - one_hot) * weight[:, None]
