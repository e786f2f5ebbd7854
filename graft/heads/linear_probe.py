"""Linear heads: multinomial logistic regression on cached features, along a path of penalties.

Every fit works in the coordinates of the features' singular vectors (see `lbfgs`); the whole path shares one
decomposition.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from graft.core.row_blocks import ArrayRows, Rows, fill_by_block, mean_and_std, read_rows
from graft.heads.lbfgs import (
    Directions,
    Frame,
    floor_spread,
    in_memory_loss,
    make_frame,
    minimise,
    principal_directions,
    scale_by_tap_width,
    streamed_loss,
)
from graft.heads.protocols import FittedHead, Floats, Kind, TrainingSet

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""From strong to weak, relative to the mean loss, for features standardised and divided by the root of their number."""
IN_MEMORY_CELLS = 2**23
"""Most feature values that a fit keeps in memory in double precision; it reads more in blocks."""


@dataclass(frozen=True)
class Linear(FittedHead):
    """A linear classifier of raw features: `x @ weight.T + bias`."""

    kind: ClassVar[Kind] = "linear"
    weight: Floats
    """(classes, features)"""
    bias: Floats
    """(classes,)"""

    @classmethod
    def of_raw(cls, weight: Floats, bias: Floats) -> "Linear":
        """Return the classifier with these rows and biases, without any standardisation."""
        return cls(weight, bias, mean=np.zeros(weight.shape[1]), scale=np.ones(weight.shape[1]))

    def logits(self, features: npt.NDArray[np.floating]) -> Floats:
        """Return (n, classes) for (n, features)."""
        return np.asarray(features @ self.weight.T + self.bias, dtype=np.float64)

    def layers(self) -> dict[str, Floats]:
        """Return weights and biases for standardised features; the attributes are for raw ones."""
        return {"linear.weight": self.weight * self.scale, "linear.bias": self.bias + self.weight @ self.mean}


def fit_path(
    images: TrainingSet,
    penalties: Sequence[float],
    start: Linear | None = None,
    warm: Linear | None = None,
    directions: Directions | None = None,
) -> Iterator[Linear]:
    """Fit one classifier per penalty, strongest first, each started from the previous one.

    Minimises `mean(w_i * CE_i) + penalty / 2 * ||W - W_start||^2` over features that are standardised and divided by
    the root of their number, so that a penalty means the same for any backbone and tap, and a wide tap does not
    dominate a narrow one. The bias is not penalised.

    Args:
        images: their features are read in blocks unless they fit in memory.
        penalties: in descending order, so that warm starts are effective.
        start: the weights are pulled to these (L2-SP, Li et al. 2018); None for zero.
        warm: start of the first fit, a classifier of similar features; None: `start`. It only saves iterations, and
            only if features are read in blocks.
        directions: see `lbfgs.make_frame`; not used if there are fewer images than features.
    """
    features, targets, task, widths = images.features, images.targets, images.task, images.widths
    (n, d), outputs = features.shape, task.outputs
    pull = Linear.of_raw(np.zeros((outputs, d)), np.zeros(outputs)) if start is None else start
    weight = np.full(n, 1.0 / n) if images.sample_weight is None else images.sample_weight / n
    if fits_in_memory(features.shape):
        x = _in_memory(features)
        given = None if start is None else start.logits(x)
        frame, z = _framed(x, widths, directions if n >= d else None)
        loss = in_memory_loss(z, targets, task, weight, given)
        warm = None
    else:
        rows = ArrayRows((features,)) if isinstance(features, np.ndarray) else features
        frame = make_frame(rows, widths, directions)
        loss = streamed_loss(rows, frame, targets, task, weight, pull.weight, pull.bias)
    w, b = np.zeros((outputs, len(frame.directions.spectrum))), task.prior_logits(targets, weight)
    if warm is not None:
        w, b = frame.from_raw(warm.weight - pull.weight, warm.bias - pull.bias)
    for penalty in penalties:
        w, b = minimise(loss, frame.directions.spectrum, penalty, w, b)
        weights, biases = frame.to_raw(w, b)
        yield Linear(weights + pull.weight, biases + pull.bias, mean=frame.mean, scale=frame.spread)


def fits_in_memory(shape: tuple[int, ...]) -> bool:
    """Return whether a fit keeps features of this shape (n, d) in memory: if they are small, or no larger than d^2."""
    n, d = shape
    return n * d <= max(IN_MEMORY_CELLS, d * d)


def standardisation(
    features: npt.NDArray[np.floating] | Rows, widths: Sequence[int] | None = None
) -> tuple[Floats, Floats]:
    """Return mean and standard deviation (d,) of every feature, the latter with a floor (see `lbfgs.floor_spread`).

    Args:
        features: (n, d).
        widths: number of features of each tap, where several are concatenated.
    """
    if isinstance(features, np.ndarray):
        mean, spread = (np.asarray(found, dtype=np.float64) for found in (features.mean(0), features.std(0)))
    else:
        mean, spread = mean_and_std(features)
    return mean, floor_spread(spread, widths)


def logits_of(fitted: FittedHead, rows: Rows, n_classes: int) -> Floats:
    """Return the logits (n, classes) of features read in blocks."""
    return fill_by_block(fitted.logits, rows, np.empty((rows.shape[0], n_classes)))


def _in_memory(features: npt.NDArray[np.floating] | Rows) -> Floats:
    return (features if isinstance(features, np.ndarray) else read_rows(features)).astype(np.float64)


def _framed(
    x: Floats, widths: Sequence[int] | None, directions: Directions | None
) -> tuple[Frame, npt.NDArray[np.float32]]:
    mean, spread = standardisation(x, widths)
    scale = scale_by_tap_width(spread, widths)
    x = (x - mean) / scale
    if directions is None:
        directions = principal_directions(x)
    return Frame(mean, spread, scale, directions), (x @ directions.basis).astype(np.float32)
