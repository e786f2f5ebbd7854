"""Linear probes: multinomial logistic regression on cached features, with its whole penalty path cross-validated.

Every fit works in the coordinates of the features' singular vectors (see `lbfgs`); the whole path shares one
decomposition (in the spirit of big_vision's closed-form probe).
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from graft.core.cpu import available_cores
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
    single_threaded_blas,
    streamed_loss,
)
from graft.heads.protocols import Fit, FittedHead, Floats, Ints, Kind, TrainingSet
from graft.tasks.task import Targets, Task

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""From strong to weak, relative to the mean loss, for features standardised and divided by the root of their number."""
IN_MEMORY_CELLS = 2**21
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
        directions: see `lbfgs.make_frame`; also only used if features are read in blocks.
    """
    features, targets, task, widths = images.features, images.targets, images.task, images.widths
    (n, d), outputs = features.shape, task.outputs
    pull = Linear.of_raw(np.zeros((outputs, d)), np.zeros(outputs)) if start is None else start
    weight = np.full(n, 1.0 / n) if images.sample_weight is None else images.sample_weight / n
    if fits_in_memory(features.shape):
        x = _in_memory(features)
        given = None if start is None else start.logits(x)
        frame, z = _framed(x, widths)
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


def _framed(x: Floats, widths: Sequence[int] | None) -> tuple[Frame, npt.NDArray[np.float32]]:
    mean, spread = standardisation(x, widths)
    scale = scale_by_tap_width(spread, widths)
    x = (x - mean) / scale
    directions = principal_directions(x)
    return Frame(mean, spread, scale, directions), (x @ directions.basis).astype(np.float32)


@dataclass(frozen=True)
class CrossValidated:
    """Out-of-fold predictions of a probe along its penalty path."""

    penalties: tuple[float, ...]
    probabilities: Floats
    """(penalties, n, classes), each row predicted by a probe that has not seen it."""
    targets: Targets
    task: Task

    def losses(self) -> Floats:
        """Return the log loss of each image under each penalty, (penalties, n)."""
        return np.stack([self.task.log_losses(predicted, self.targets) for predicted in self.probabilities])

    @property
    def best(self) -> int:
        """Index of the penalty with the lowest mean log loss."""
        return int(self.losses().mean(1).argmin())

    @property
    def penalty(self) -> float:
        """The penalty with the lowest mean log loss."""
        return self.penalties[self.best]

    @property
    def loss(self) -> Floats:
        """Log loss of each image under the best penalty, (n,)."""
        return np.asarray(self.losses()[self.best])

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Whether each prediction is right under the best penalty, (n,)."""
        return self.task.correct(self.probabilities[self.best], self.targets)


def cross_validate(
    features: npt.NDArray[np.floating],
    targets: Targets,
    task: Task,
    folds: Sequence[tuple[Ints, Ints]],
    penalties: Sequence[float] = PENALTIES,
    label_weights: Floats | None = None,
    widths: Sequence[int] | None = None,
    fit: Fit | None = None,
    start: Linear | None = None,
) -> CrossValidated:
    """Predict every image with probes fitted without its fold, from the strongest penalty until weaker ones hurt.

    Args:
        features: (n, d).
        targets: of the images.
        task: what is learnt.
        folds: (training rows, held-out rows) pairs, see `make_folds`.
        penalties: to try, strongest first; the path ends after two that are worse than the best before them.
        label_weights: (outputs,); None for all equal.
        widths: number of features of each tap, where several are concatenated.
        fit: fits the kind of head; None for linear.
        start: a linear head is pulled to it, see `fit_path`.
    """
    if fit is None:
        directions = None if fits_in_memory(features.shape) else make_frame(ArrayRows((features,)), widths).directions
        fit = partial(fit_path, start=start, directions=directions)
    weight = None if label_weights is None else task.image_weights(targets, label_weights)
    paths = [
        fit(TrainingSet(rows, targets[train], task, weight if weight is None else weight[train], widths), penalties)
        for train, rows in _training_parts(features, folds)
    ]
    probabilities: list[Floats] = []
    losses: list[float] = []
    # One fold per core, and no fold waits for another core inside a matrix product.
    with single_threaded_blas(), ThreadPoolExecutor(min(len(folds), available_cores())) as pool:
        for _ in penalties:
            predicted = np.zeros((len(targets), task.outputs))
            for (_, held_out), probe in zip(folds, pool.map(next, paths), strict=True):
                predicted[held_out] = task.probabilities(probe.logits(features[held_out]))
            probabilities.append(predicted)
            losses.append(float(task.log_losses(predicted, targets).mean()))
            if len(losses) > 2 and min(losses[-2:]) > min(losses[:-2]):
                break
    return CrossValidated(tuple(penalties[: len(losses)]), np.stack(probabilities), targets, task)


def _training_parts(
    features: npt.NDArray[np.floating], folds: Sequence[tuple[Ints, Ints]]
) -> Iterator[tuple[Ints, npt.NDArray[np.floating] | Rows]]:
    """Yield the training rows of each fold and their features; if there are many, all folds share one copy."""
    if fits_in_memory(features.shape):
        yield from ((train, features[train]) for train, _ in folds)
        return
    order = np.concatenate([held_out for _, held_out in folds])
    ordered = np.asarray(features, dtype=np.float32)[order]
    end = 0
    for _, held_out in folds:
        start, end = end, end + len(held_out)
        yield np.concatenate([order[:start], order[end:]]), ArrayRows((ordered[:start], ordered[end:]))


def make_folds(
    strata: Ints, groups: Sequence[str] | npt.NDArray[np.object_], n_folds: int, seed: int
) -> list[tuple[Ints, Ints]]:
    """Split rows into folds that keep the share of every stratum (n,), with the images of one group in one fold.

    There are fewer folds than requested if the rarest stratum has fewer groups.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    names = np.asarray(groups)
    rarest = min(len(np.unique(names[strata == label])) for label in np.unique(strata))
    splitter = StratifiedGroupKFold(max(2, min(n_folds, rarest)), shuffle=True, random_state=seed)
    return [(train, held_out) for train, held_out in splitter.split(strata, strata, names)]
