"""Cross-validation of heads: folds of complete groups, and out-of-fold predictions along a path of penalties."""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from graft.core.cpu import available_cores
from graft.core.row_blocks import ArrayRows, Rows
from graft.heads.lbfgs import make_frame, single_threaded_blas
from graft.heads.linear_probe import PENALTIES, Linear, fit_path, fits_in_memory
from graft.heads.prior_correction import fit_prior_share, prior_shift
from graft.heads.protocols import Fit, Floats, Ints, TrainingSet
from graft.tasks.task import Bools, Targets, Task

Folds = Sequence[tuple[Ints, Ints]]
"""(training rows, held-out rows) pairs."""
LARGE = 2**28
"""With more images x features x outputs, the first fold alone chooses the penalty, and the others only predict."""


@dataclass(frozen=True)
class CrossValidated:
    """Out-of-fold predictions of a head along its penalty path."""

    penalties: tuple[float, ...]
    """Those that were tried, strongest first."""
    path_losses: tuple[float, ...]
    """Mean log loss under each of them."""
    probabilities: Floats
    """(n, outputs) under the best penalty, each row predicted by a probe that has not seen it."""
    judged: Bools
    """(n,), the images whose predictions count, see `judged_rows`."""
    targets: Targets
    task: Task
    prior_share: float = 0.0
    """How far the predictions were corrected for weighted labels, see `prior_correction`."""

    @property
    def penalty(self) -> float:
        """The penalty with the lowest mean log loss."""
        return self.penalties[int(np.argmin(self.path_losses))]

    @property
    def loss(self) -> Floats:
        """Log loss of each judged image under the best penalty."""
        return self.task.log_losses(self.probabilities[self.judged], self.targets[self.judged])

    @property
    def correct(self) -> Bools:
        """Whether the prediction of each judged image is right under the best penalty."""
        return self.task.correct(self.probabilities[self.judged], self.targets[self.judged])

    def fit_temperature(self) -> float:
        """Return the temperature that calibrates the predictions of the judged images."""
        logits = self.task.logits(self.probabilities[self.judged])
        return self.task.fit_temperature(logits, self.targets[self.judged])


def cross_validate(
    features: npt.NDArray[np.floating],
    targets: Targets,
    task: Task,
    folds: Folds,
    penalties: Sequence[float] = PENALTIES,
    label_weights: Floats | None = None,
    widths: Sequence[int] | None = None,
    fit: Fit | None = None,
    start: Linear | None = None,
    judged: Bools | None = None,
) -> CrossValidated:
    """Predict every image with probes fitted without its fold, from the strongest penalty until weaker ones hurt.

    Args:
        features: (n, d).
        targets: of the images.
        task: what is learnt.
        folds: see `make_folds`.
        penalties: to try, strongest first; the path ends after two that are worse than the best before them.
        label_weights: (outputs,); None for all equal.
        widths: number of features of each tap, where several are concatenated.
        fit: fits the kind of head; None for linear.
        start: a linear head is pulled to it, see `linear_probe.fit_path`.
        judged: (n,), the images whose predictions count; None: all.
    """
    large = features.size * task.outputs > LARGE
    if fit is None:
        shared = large or not fits_in_memory(features.shape)
        directions = make_frame(ArrayRows((features,)), widths).directions if shared else None
        fit = partial(fit_path, start=start, directions=directions)
    counted = np.ones(len(targets), dtype=np.bool_) if judged is None else judged
    problem = _Problem(features, targets, task, label_weights, widths, fit, counted)
    if not large or len(penalties) == 1:
        return problem.path(folds, penalties)
    first = problem.path(folds[:1], penalties)
    found = problem.path(folds, [first.penalty])
    return replace(found, penalties=first.penalties, path_losses=first.path_losses)


@dataclass(frozen=True)
class _Problem:
    """What is cross-validated, but for folds and penalties; see `cross_validate`."""

    features: npt.NDArray[np.floating]
    targets: Targets
    task: Task
    label_weights: Floats | None
    widths: Sequence[int] | None
    fit: Fit
    judged: Bools

    def path(self, folds: Folds, penalties: Sequence[float]) -> CrossValidated:
        """Predict the held-out images of some folds; the others' probabilities are zero, and do not count."""
        task, targets = self.task, self.targets
        weight = None if self.label_weights is None else task.image_weights(targets, self.label_weights)
        paths = [
            self.fit(TrainingSet(rows, targets[train], task, _of(weight, train), self.widths), penalties)
            for train, rows in _training_parts(self.features, folds)
        ]
        held = np.sort(np.concatenate([held_out for _, held_out in folds]))
        held = held[self.judged[held]]
        losses: list[float] = []
        best = np.zeros((len(targets), task.outputs))
        share = 0.0
        # One fold per core, and no fold waits for another core inside a matrix product.
        with single_threaded_blas(), ThreadPoolExecutor(min(len(folds), available_cores())) as pool:
            for _ in penalties:
                logits = np.zeros((len(targets), task.outputs))
                for (_, held_out), probe in zip(folds, pool.map(next, paths), strict=True):
                    logits[held_out] = probe.logits(self.features[held_out])
                this = 0.0
                if weight is not None:
                    this = fit_prior_share(logits[held], targets[held], task, targets)
                    logits += prior_shift(this, targets, task)
                predicted = task.probabilities(logits)
                losses.append(float(task.log_losses(predicted[held], targets[held]).mean()))
                if losses[-1] == min(losses):
                    best, share = predicted, this
                if len(losses) > 2 and min(losses[-2:]) > min(losses[:-2]):
                    break
        return CrossValidated(tuple(penalties[: len(losses)]), tuple(losses), best, self.judged, targets, task, share)


def make_folds(
    strata: Ints, groups: Sequence[str] | npt.NDArray[np.object_], n_folds: int, seed: int
) -> list[tuple[Ints, Ints]]:
    """Split rows into folds that keep the share of every stratum (n,), with the images of one group in one fold.

    There are fewer folds than requested if a stratum has fewer groups. One with a single group does not count: however
    few the folds, none can both learn and test it (see `judged_rows`).
    """
    from sklearn.model_selection import StratifiedGroupKFold

    names = np.asarray(groups)
    numbers = [len(np.unique(names[strata == label])) for label in np.unique(strata)]
    shared = [number for number in numbers if number > 1]
    splitter = StratifiedGroupKFold(max(2, min([n_folds, *shared])) if shared else 2, shuffle=True, random_state=seed)
    kept = strata if shared else np.zeros_like(strata)
    with warnings.catch_warnings():
        # of strata with fewer images than folds: a single group may be a single image
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return [(train, held_out) for train, held_out in splitter.split(kept, kept, names)]


def judged_rows(strata: Ints, folds: Folds) -> Bools:
    """Return which rows (n,) can be judged: those whose stratum is also among the training rows of their fold.

    A probe that has never seen a class gives it no probability. Such predictions say nothing about the head, which has
    seen it, and a few of them would make every temperature look too low and every penalty too weak. If no row can be
    judged so, all count: there is nothing better.
    """
    judged = np.zeros(len(strata), dtype=np.bool_)
    for train, held_out in folds:
        judged[held_out] = np.isin(strata[held_out], strata[train])
    return judged if judged.any() else ~judged


def _of(weight: Floats | None, rows: Ints) -> Floats | None:
    return None if weight is None else weight[rows]


def _training_parts(
    features: npt.NDArray[np.floating], folds: Folds
) -> Iterator[tuple[Ints, npt.NDArray[np.floating] | Rows]]:
    """Yield the training rows of each fold and their features; if there are many, all folds share one copy."""
    if fits_in_memory(features.shape):
        yield from ((train, features[train]) for train, _ in folds)
        return
    held = np.concatenate([held_out for _, held_out in folds])
    order = np.concatenate([held, np.setdiff1d(np.arange(len(features)), held)])
    ordered = np.asarray(features, dtype=np.float32)[order]
    end = 0
    for _, held_out in folds:
        start, end = end, end + len(held_out)
        yield np.concatenate([order[:start], order[end:]]), ArrayRows((ordered[:start], ordered[end:]))
