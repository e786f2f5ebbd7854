"""The optimisation behind linear heads: L-BFGS on the penalised loss of a task, in coordinates that make it fast.

Features are standardised, divided by the root of their number and rotated into their principal directions (a `Frame`).
There the penalised Hessian is nearly diagonal, so after scaling each coordinate by it about fifteen iterations are
enough unless the penalty is weak. Few images are rotated once and kept in memory; many are read again in blocks for
every evaluation, and the frame is multiplied into the weights instead: memory grows with the square of the features,
not with the images.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from graft.core.row_blocks import Rows, block_slices, mean_and_std
from graft.heads.protocols import Floats
from graft.tasks.task import Targets, Task

Loss = Callable[[Floats, Floats], tuple[float, npt.NDArray[np.floating], Floats]]
"""Maps weights (classes, r) and biases (classes,) in a frame to the mean loss and its gradients."""

SPREAD_FLOOR = 0.1
"""Least standard deviation of a feature, as a fraction of its tap's root mean square."""
_LBFGS = {"maxiter": 150, "gtol": 1e-5, "ftol": 1e-5, "maxcor": 10}


@dataclass(frozen=True)
class Directions:
    """Principal directions of standardised features."""

    basis: Floats
    """(d, r), orthonormal columns."""
    spectrum: Floats
    """(r,), the mean square along each."""


@dataclass(frozen=True)
class Frame:
    """The coordinates of a fit: z = ((x - mean) / scale) @ basis."""

    mean: Floats
    """(d,)"""
    spread: Floats
    """(d,), see `floor_spread`."""
    scale: Floats
    """(d,), see `scale_by_tap_width`."""
    directions: Directions

    def to_raw(self, weight: Floats, bias: Floats) -> tuple[Floats, Floats]:
        """Convert a classifier of z to one of raw features, (classes, d) and (classes,)."""
        weight = (weight @ self.directions.basis.T) / self.scale
        return weight, bias - weight @ self.mean

    def from_raw(self, weight: Floats, bias: Floats) -> tuple[Floats, Floats]:
        """Convert a classifier of raw features to one of z; the basis must be complete."""
        return (weight * self.scale) @ self.directions.basis, bias + weight @ self.mean


def floor_spread(spread: Floats, widths: Sequence[int] | None = None) -> Floats:
    """Return standard deviations (d,), each at least a fraction of its tap's typical one.

    A feature that is almost never active on these images (a dead ReLU) has almost no spread. Divided by it, the one
    image that activates it, or the first step of fine-tuning, would dominate all others.

    Args:
        spread: (d,).
        widths: number of features of each tap, where several are concatenated.
    """
    taps = np.split(spread, np.cumsum(widths or [len(spread)])[:-1])
    floors = [np.full(len(tap), SPREAD_FLOOR * np.sqrt(np.mean(tap**2)) + 1e-6) for tap in taps]
    return np.asarray(np.maximum(spread, np.concatenate(floors)), dtype=np.float64)


def scale_by_tap_width(spread: Floats, widths: Sequence[int] | None = None) -> Floats:
    """Return the scale to divide features by (d,): their spread times the root of the width of their tap."""
    return np.asarray(spread * np.sqrt(np.repeat(widths, widths) if widths else len(spread)), dtype=np.float64)


def principal_directions(x: Floats) -> Directions:
    """Return the directions of standardised features (n, d) in memory, without those in which nothing varies."""
    n, d = x.shape
    if n < d:
        values, left = np.linalg.eigh(x @ x.T)
        kept = values > values[-1] * 1e-10
        return Directions(x.T @ left[:, kept] / np.sqrt(values[kept]), values[kept] / n)
    values, right = np.linalg.eigh(x.T @ x)
    kept = values > values[-1] * 1e-10
    return Directions(right[:, kept], values[kept] / n)


def make_frame(rows: Rows, widths: Sequence[int] | None = None, directions: Directions | None = None) -> Frame:
    """Return the frame of features read in blocks; its basis is complete.

    Args:
        rows: (n, d).
        widths: number of features of each tap, where several are concatenated.
        directions: of similar features, to save the decomposition. The optimum is the same in any complete basis, only
            the path to it is longer.
    """
    mean, spread = mean_and_std(rows)
    spread = floor_spread(spread, widths)
    scale = scale_by_tap_width(spread, widths)
    if directions is None:
        n, d = rows.shape
        squares = np.zeros((d, d))
        for _, block in rows.blocks():
            for where in block_slices(len(block), d, cell_bytes=8):
                standardised = (block[where] - mean) / scale
                squares += standardised.T @ standardised
        values, basis = np.linalg.eigh(squares)
        directions = Directions(basis, np.maximum(values, 0.0) / n)
    return Frame(mean, spread, scale, directions)


def in_memory_loss(
    z: npt.NDArray[np.float32], targets: Targets, task: Task, weight: Floats, given: Floats | None = None
) -> Loss:
    """Return the loss on rows in memory.

    Args:
        z: (n, r), in a frame.
        targets: of the rows.
        task: what is learnt.
        weight: (n,) of the rows, of sum one.
        given: logits (n, classes) that the classifier's are added to; None for zero.
    """
    below = None if given is None else given.astype(np.float32)

    def loss(w: Floats, b: Floats) -> tuple[float, npt.NDArray[np.floating], Floats]:
        logits = z @ w.T.astype(np.float32)
        logits += b.astype(np.float32)
        if below is not None:
            logits += below
        value, residual = task.objective(logits, targets, weight)
        return value, residual.T @ z, residual.sum(axis=0, dtype=np.float64)

    return loss


def streamed_loss(
    rows: Rows, frame: Frame, targets: Targets, task: Task, weight: Floats, start: Floats, start_bias: Floats
) -> Loss:
    """Return the loss on raw features read in blocks, as a function of the classifier in the frame.

    Args:
        rows: (n, d), raw.
        frame: of the classifier.
        targets: of the rows.
        task: what is learnt.
        weight: (n,) of the rows, of sum one.
        start: (classes, d), weights of raw features that the classifier's are added to.
        start_bias: (classes,), likewise.
    """
    basis = frame.directions.basis.astype(np.float32)

    def loss(w: Floats, b: Floats) -> tuple[float, npt.NDArray[np.floating], Floats]:
        own = w.astype(np.float32) @ basis.T / frame.scale
        raw = (own + start).astype(np.float32)
        bias = (b - own @ frame.mean + start_bias).astype(np.float32)
        value, pull, pulls = 0.0, np.zeros(raw.shape), np.zeros(len(bias))
        for where, block in rows.blocks():
            residual = block @ raw.T
            residual += bias
            entropy, residual = task.objective(residual, targets[where], weight[where])
            value += entropy
            pull += residual.T @ block
            pulls += residual.sum(axis=0, dtype=np.float64)
        slope = ((pull - np.outer(pulls, frame.mean)) / frame.scale).astype(np.float32) @ basis
        return value, slope, pulls

    return loss


def minimise(loss: Loss, spectrum: Floats, penalty: float, weight: Floats, bias: Floats) -> tuple[Floats, Floats]:
    """Return the weights (classes, r) and biases (classes,) that minimise loss + penalty / 2 * ||weight||^2.

    Args:
        loss: of the data.
        spectrum: (r,), see `Directions`.
        penalty: on the weights, not on the biases.
        weight: start of the weights.
        bias: start of the biases.
    """
    n_classes, r = weight.shape
    # Curvature of the cross-entropy: about p (1 - p) with p near 1 / classes, times the spread of the coordinate.
    step = 1.0 / np.sqrt(spectrum / n_classes + penalty)

    def flat_loss(flat: Floats) -> tuple[float, Floats]:
        theta = flat.reshape(n_classes, r + 1)
        scaled = theta[:, :r] * step
        value, slope, slopes = loss(scaled, theta[:, r])
        value += 0.5 * penalty * (scaled**2).sum()
        gradient = np.empty_like(theta)
        gradient[:, :r] = (slope + penalty * scaled) * step
        gradient[:, r] = slopes
        return float(value), gradient.ravel()

    start = np.concatenate([weight / step, bias[:, None]], axis=1).ravel()
    found = minimize(flat_loss, start, jac=True, method="L-BFGS-B", options=_LBFGS)
    theta = found.x.reshape(n_classes, r + 1)
    return theta[:, :r] * step, theta[:, r]


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Run matrix products on one core: with as few columns as classes, cores that share a product wait for each other.

    The setting holds for the whole process, so concurrent threads must not enter and leave it independently.
    """
    with threadpool_limits(1, user_api="blas"):
        yield
