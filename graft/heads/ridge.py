"""Ridge probes: how well features predict held-out images, in closed form for every penalty and fold.

A probe takes one Newton step from the model that knows only the label frequencies (which is ridge regression to the
task's targets), as far as the held-out log loss asks for. One eigendecomposition serves every penalty (as in
big_vision's few-shot probe), and every fold: the residuals of rows F that a ridge regression has not seen are
`(I - H_FF)^-1 (y_F - fitted_F)` with H the hat matrix of the fit to all rows (Cook and Weisberg 1982). So the cost of a
comparison hardly depends on the number of penalties or classes. The log losses follow those of logistic regression
closely enough to choose the groups that a head reads, and to see whether another kind of head can win.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve
from scipy.optimize import minimize_scalar

from graft.heads.lbfgs import floor_spread, scale_by_tap_width
from graft.heads.protocols import Floats, Ints
from graft.stats.subsampling import evenly_spaced
from graft.tasks.task import Bools, Targets, Task

RIDGES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Penalties from strong to weak, relative to the mean eigenvalue."""
DOUBLE_CELLS = 2**22
"""Larger designs are kept in single precision."""
BLOCK_ROWS = 250
"""Most rows that are left out together, unless a group is larger: the cost grows with the square of their number."""
STEP_ROWS = 500
"""Most rows that the length of the step is fitted to: it is a single number."""
_LONGEST = 6.0
"""Logarithm of the longest step."""
_NEGLIGIBLE = 1e-9
"""Smaller eigenvalues, relative to the largest, count as zero."""

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Spectrum:
    """The eigenvectors of the images' centred Gram matrix: all that a ridge regression needs to know of the images."""

    vectors: Array
    """(n, r), orthonormal columns."""
    values: Floats
    """(r,), positive."""


@dataclass(frozen=True)
class RidgeProbe:
    """Held-out predictions of the best ridge probe, on the images that can be judged."""

    penalty: float
    """The best of `RIDGES`."""
    loss: Floats
    """Log loss of each image, (n,)."""
    correct: Bools
    """Whether each prediction is right, (n,)."""


def linear_spectrum(features: Array, widths: Sequence[int] | None = None) -> Spectrum:
    """Return the spectrum of features (n, d), standardised as a linear head's are.

    Args:
        features: (n, d).
        widths: number of features of each tap, where several are concatenated.
    """
    return _of_rows(_standardised(features, widths))


def angular_spectrum(features: Array, widths: Sequence[int] | None = None) -> Spectrum:
    """Return the spectrum of the directions of standardised features, all of length one: what a cosine head sees."""
    z = _standardised(features, widths)
    z /= np.linalg.norm(z, axis=1, keepdims=True) + 1e-12
    return _of_rows(z - z.mean(axis=0))


def radial_spectrum(features: Array, widths: Sequence[int] | None = None) -> Spectrum:
    """Return the spectrum of a Gaussian kernel as wide as the median distance: smooth boundaries, as an MLP's are."""
    z = _standardised(features, widths)
    products = z @ z.T
    own = np.diagonal(products)
    squares = own + own[:, None] - 2 * products
    kernel = np.exp(squares / -np.median(squares))
    means = kernel.mean(axis=0)
    return _of_gram(kernel - means - means[:, None] + means.mean())


def probe(
    spectrum: Spectrum,
    targets: Targets,
    task: Task,
    folds: Sequence[tuple[Ints, Ints]],
    groups: npt.NDArray[Any],
    judged: Bools,
) -> RidgeProbe:
    """Predict every image by probes that have seen no image of its group, and return the best penalty's predictions.

    Args:
        spectrum: of the images' features.
        targets: of the images.
        task: what is learnt.
        folds: (training rows, held-out rows) pairs; large folds are divided further, which leaves more to learn from.
        groups: one name per image, (n,).
        judged: (n,), the images that count.
    """
    n = len(targets)
    prior = task.prior_logits(targets, np.full(n, 1 / n))
    flat = np.broadcast_to(prior.astype(np.float32), (n, task.outputs)).copy()
    _, pull = task.objective(flat, targets, np.ones(n))
    aim = np.negative(pull, dtype=spectrum.vectors.dtype)
    # The model without images has no slope by the bias, so the aim has a mean of zero, and no intercept is needed.
    along = spectrum.vectors.T @ aim
    blocks = _blocks(folds, groups)
    rows = np.flatnonzero(judged)
    few = rows[evenly_spaced(len(rows), STEP_ROWS)]
    means: list[float] = []
    for penalty in RIDGES:
        direction = _left_out(spectrum, penalty * spectrum.values.mean(), aim, along, blocks)
        logits = prior + _step(direction[few], prior, targets[few], task) * direction[rows]
        loss = task.losses(logits, targets[rows])
        means.append(float(loss.mean()))
        if means[-1] == min(means):
            best = RidgeProbe(penalty, loss, task.correct(task.probabilities(logits), targets[rows]))
        elif len(means) > 2 and min(means[-2:]) > min(means[:-2]):
            break
    return best


def _left_out(spectrum: Spectrum, penalty: float, aim: Array, along: Array, blocks: Sequence[Ints]) -> Array:
    """Return the prediction (n, k) of `aim` for every row by a ridge regression that has not seen its block."""
    vectors = spectrum.vectors
    shrink = (spectrum.values / (spectrum.values + penalty)).astype(vectors.dtype)
    fitted = vectors @ (shrink[:, None] * along)
    for block in blocks:
        part = vectors[block]
        hat = (part * shrink) @ part.T + vectors.dtype.type(1 / len(vectors))
        missed = solve(np.eye(len(block), dtype=hat.dtype) - hat, aim[block] - fitted[block], assume_a="pos")
        fitted[block] = aim[block] - missed
    return fitted


def _step(direction: Array, prior: Floats, targets: Targets, task: Task) -> float:
    """Return how far along its direction a probe should go from the prior."""

    def loss(length: float) -> float:
        return float(task.losses(prior + np.exp(length) * direction, targets).mean())

    found = minimize_scalar(loss, bounds=(0.0, _LONGEST), method="bounded", options={"xatol": 0.05})
    return float(np.exp(found.x))


def _blocks(folds: Sequence[tuple[Ints, Ints]], groups: npt.NDArray[Any]) -> list[Ints]:
    """Divide the held-out rows of each fold into blocks of complete groups."""
    blocks = []
    for _, held_out in folds:
        order = held_out[np.argsort(groups[held_out], kind="stable")]
        names = groups[order]
        starts = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
        number = -(-len(order) // BLOCK_ROWS)
        ends = np.searchsorted(starts, np.arange(1, number) * len(order) // number)
        blocks += [block for block in np.split(order, starts[np.minimum(ends, len(starts) - 1)]) if len(block)]
    return blocks


def _standardised(features: Array, widths: Sequence[int] | None) -> Array:
    dtype = np.float64 if features.size <= DOUBLE_CELLS else np.float32
    x = np.asarray(features, dtype=dtype)
    mean, spread = x.mean(axis=0), x.std(axis=0)
    scale = scale_by_tap_width(floor_spread(spread.astype(np.float64), widths), widths)
    return np.asarray((x - mean) / scale.astype(dtype))


def _of_rows(z: Array) -> Spectrum:
    """Return the spectrum of centred rows (n, d)."""
    n, d = z.shape
    if n <= d:
        return _of_gram(z @ z.T)
    values, right = np.linalg.eigh((z.T @ z).astype(np.float64))
    kept = values > values[-1] * _NEGLIGIBLE
    values = values[kept]
    return Spectrum(z @ (right[:, kept] / np.sqrt(values)).astype(z.dtype), values)


def _of_gram(gram: Array) -> Spectrum:
    values, vectors = np.linalg.eigh(gram.astype(np.float64))
    kept = values > values[-1] * _NEGLIGIBLE
    return Spectrum(vectors[:, kept].astype(gram.dtype), values[kept])
