"""Fitting the chosen head to all training images, with an out-of-fold prediction for each.

If the choice used all images, the folds have already predicted them. Otherwise a probe of the sample predicts the
images outside it, which it never saw, and two things are measured again on held-out images with a fit to all others:
how far the penalty can go down, since more images need less of it, and the temperature.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from graft.core.row_blocks import ArrayRows, Rows
from graft.heads.depth_selection import HeadChoice
from graft.heads.families import family, shifted
from graft.heads.head_inputs import HeadInputs
from graft.heads.lbfgs import Directions, make_frame, single_threaded_blas
from graft.heads.linear_probe import Linear, fit_path, logits_of
from graft.heads.prior_correction import fit_prior_share, prior_shift
from graft.heads.protocols import FittedHead, Floats, Ints, TrainingSet
from graft.stats.subsampling import sample
from graft.tasks.task import Targets

HELD_OUT_IMAGES = 2_000
"""Images outside the sample that are held out to measure penalty and temperature."""


@dataclass(frozen=True)
class FullFit:
    """The head fitted to all training images."""

    fitted: FittedHead
    l2: float
    """The penalty it was fitted with."""
    prior_share: float
    """How far weighted labels were corrected for, see `prior_correction`."""
    temperature: float
    probabilities: Floats
    """(n, classes), out-of-fold: each training image predicted by a probe that has not seen it, in the order of
    `HeadInputs.train`."""


def fit_to_all_images(inputs: HeadInputs, choice: HeadChoice) -> FullFit:
    """Fit the chosen head to all training images; of the memory, only `probabilities` grows with them.

    A linear head reads all of them in blocks; the other kinds learn from those that `nonlinear.training_arrays` loads.
    """
    chosen = choice.cross_validated
    features = inputs.features(choice.taps)
    fitted = family(choice.kind, choice.start).fit_at(
        chosen.penalty,
        features,
        inputs.targets,
        inputs.task,
        inputs.widths(choice.taps),
        weighted=inputs.label_weights is not None,
        prior_share=chosen.prior_share,
    )
    found = FullFit(fitted, chosen.penalty, chosen.prior_share, chosen.fit_temperature(), chosen.probabilities)
    if len(inputs.rows) == len(inputs.train):
        return found
    fits = _Fits(inputs, choice, _directions(inputs, choice, features))
    with single_threaded_blas():
        return _extended(fits, found)


@dataclass(frozen=True)
class _Fits:
    """How to fit the chosen kind of head to many training images."""

    inputs: HeadInputs
    choice: HeadChoice
    directions: Directions | None
    """Of the sample, for linear heads."""

    @property
    def weighted(self) -> bool:
        """Whether labels are weighted."""
        return self.inputs.label_weights is not None and family(self.choice.kind).weighs

    def prior_share(self, logits: Floats, held_out: Targets, targets: Targets) -> float:
        """Return how far to correct the logits of held-out images for weighted labels."""
        return fit_prior_share(logits, held_out, self.inputs.task, targets) if self.weighted else 0.0

    def path(self, rows: Rows, targets: Ints, penalties: Sequence[float], warm: FittedHead) -> Iterator[FittedHead]:
        """Fit penalty after penalty, started from `warm` if the kind is linear, else along the stronger penalties."""
        inputs, choice = self.inputs, self.choice
        task = inputs.task
        weight = task.image_weights(targets, task.label_weights(targets)) if self.weighted else None
        images = TrainingSet(rows, targets, task, weight, inputs.widths(choice.taps))
        if isinstance(warm, Linear):
            return fit_path(images, penalties, choice.start, warm, self.directions)
        heads = family(choice.kind)
        before = heads.stronger_than(penalties[0])
        return islice(heads.fit(images, [*before, *penalties]), len(before), None)


def _extended(fits: _Fits, sampled: FullFit) -> FullFit:
    """Extend a fit to the sample to all training images."""
    inputs, choice = fits.inputs, fits.choice
    store, taps, task = inputs.store, choice.taps, inputs.task
    targets = store.targets()[inputs.train]
    within = np.isin(inputs.train, inputs.rows, assume_unique=True)
    probabilities = np.empty((len(targets), task.outputs))
    probabilities[within] = sampled.probabilities
    beyond = store.mapped(taps, inputs.train[~within])
    probabilities[~within] = task.probabilities(logits_of(sampled.fitted, beyond, task.outputs))

    fitted, l2, temperature, share = sampled.fitted, sampled.l2, sampled.temperature, sampled.prior_share
    held_out_rows = _held_out(inputs, task.strata(targets), np.flatnonzero(~within))
    if len(held_out_rows):
        held_out = store.mapped(taps, inputs.train[held_out_rows])
        others = np.delete(np.arange(len(targets)), held_out_rows)
        weaker = [penalty for penalty in inputs.penalties(family(choice.kind, choice.start)) if penalty <= l2]
        rows = store.mapped(taps, inputs.train[others])
        judged = targets[held_out_rows]
        least = np.inf
        for penalty, tried in zip(weaker, fits.path(rows, targets[others], weaker, fitted), strict=True):
            logits = logits_of(tried, held_out, task.outputs)
            corrected_by = fits.prior_share(logits, judged, targets)
            logits += prior_shift(corrected_by, targets, task)
            loss = float(task.losses(logits, judged).mean())
            if loss >= least:
                break
            fitted, l2, share, least = tried, penalty, corrected_by, loss
            temperature = task.fit_temperature(logits, judged)
    everything = store.mapped(taps, inputs.train)
    (fitted,) = fits.path(everything, targets, [l2], fitted)
    fitted = shifted(fitted, prior_shift(share, targets, task)) if fits.weighted else fitted
    return FullFit(fitted, l2, share, temperature, probabilities)


def _directions(inputs: HeadInputs, choice: HeadChoice, features: npt.NDArray[np.float32]) -> Directions | None:
    if choice.kind != "linear":
        return None
    return make_frame(ArrayRows((features,)), inputs.widths(choice.taps)).directions


def _held_out(inputs: HeadInputs, strata: Ints, beyond: Ints) -> Ints:
    """Return positions of training images outside the sample to hold out; none if that would take most of them.

    Images of a class that would have no others are not held out: no fit could predict them.
    """
    if len(beyond) < 2 * HELD_OUT_IMAGES:
        return beyond[:0]
    groups = inputs.store.table["group"].to_numpy()[inputs.train[beyond]]
    held_out = beyond[sample(strata[beyond], groups, HELD_OUT_IMAGES, "judges")]
    return held_out[np.isin(strata[held_out], np.delete(strata, held_out))]
