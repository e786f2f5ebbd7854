"""From the sample that chose to all training images: the head on every one of them, and an honest answer about each.

Where the sample is all there is, the folds have given the answers already. Otherwise a probe of the sample answers for
the images beyond it, which it never saw, and two things are measured anew at full size on some images held out: how far
the penalty can go down, since more images need less of it, and the temperature.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from graft.core.row_blocks import ArrayRows, Rows
from graft.heads.depth_selection import Evidence, Reuse
from graft.heads.families import family
from graft.heads.lbfgs import Directions, frame_of, thin_products
from graft.heads.linear_probe import Linear, fit_path, logits_of
from graft.heads.protocols import Fitted, Floats, Ints, TrainingSet
from graft.stats.subsampling import sample

JUDGES = 2_000
"""Images beyond the sample that are held out to measure penalty and temperature."""


@dataclass(frozen=True)
class Whole:
    """What all training images say."""

    fitted: Fitted
    l2: float
    """The penalty it was fitted with."""
    temperature: float
    probabilities: Floats
    """(n, classes), each training image predicted by a probe that has not seen it, in the order of `Evidence.train`."""


def fit_whole(evidence: Evidence, reuse: Reuse) -> Whole:
    """Fit the chosen head on all training images; memory does not grow with them but for `probabilities`.

    A linear head reads all of them in blocks; one of another kind holds as many as
    `nonlinear.learnt` lets it learn from.
    """
    chosen = reuse.chosen
    honest = chosen.probabilities[chosen.best]
    features = evidence.features(reuse.taps)
    fitted = family(reuse.kind, reuse.start).at(
        chosen.penalty,
        features,
        evidence.targets,
        evidence.task,
        evidence.widths(reuse.taps),
        weighted=evidence.label_weights is not None,
    )
    task = evidence.task
    temperature = task.fit_temperature(task.logits(honest), chosen.targets)
    if len(evidence.rows) == len(evidence.train):
        return Whole(fitted, chosen.penalty, temperature, honest)
    fits = _Fits(evidence, reuse, _directions(evidence, reuse, features))
    with thin_products():
        return _enlarged(fits, Whole(fitted, chosen.penalty, temperature, honest))


@dataclass(frozen=True)
class _Fits:
    """How the chosen kind of head is fitted to many training images."""

    evidence: Evidence
    reuse: Reuse
    directions: Directions | None
    """Of the sample, for linear heads."""

    def path(self, rows: Rows, targets: Ints, penalties: Sequence[float], warm: Fitted) -> Iterator[Fitted]:
        """Fit penalty after penalty: from `warm` on, or, where a kind cannot, by way of the stronger ones."""
        evidence, reuse = self.evidence, self.reuse
        task = evidence.task
        weight = None if evidence.label_weights is None else task.image_weights(targets, task.label_weights(targets))
        images = TrainingSet(rows, targets, task, weight, evidence.widths(reuse.taps))
        if isinstance(warm, Linear):
            return fit_path(images, penalties, reuse.start, warm, self.directions)
        heads = family(reuse.kind)
        before = heads.stronger(penalties[0])
        return islice(heads.fit(images, [*before, *penalties]), len(before), None)


def _enlarged(fits: _Fits, sampled: Whole) -> Whole:
    """Go from what the sample says to what all training images do."""
    evidence, reuse = fits.evidence, fits.reuse
    store, taps, task = evidence.store, reuse.taps, evidence.task
    targets = store.targets()[evidence.train]
    within = np.isin(evidence.train, evidence.rows, assume_unique=True)
    probabilities = np.empty((len(targets), task.outputs))
    probabilities[within] = sampled.probabilities
    beyond = store.mapped(taps, evidence.train[~within])
    probabilities[~within] = task.probabilities(logits_of(sampled.fitted, beyond, task.outputs))

    fitted, l2, temperature = sampled.fitted, sampled.l2, sampled.temperature
    judges = _judges(evidence, task.strata(targets), np.flatnonzero(~within))
    if len(judges):
        held_out = store.mapped(taps, evidence.train[judges])
        others = np.delete(np.arange(len(targets)), judges)
        weaker = [penalty for penalty in evidence.penalties(family(reuse.kind, reuse.start)) if penalty <= l2]
        rows = store.mapped(taps, evidence.train[others])
        least = np.inf
        for penalty, tried in zip(weaker, fits.path(rows, targets[others], weaker, fitted), strict=True):
            logits = logits_of(tried, held_out, task.outputs)
            loss = float(task.losses(logits, targets[judges]).mean())
            if loss >= least:
                break
            fitted, l2, least = tried, penalty, loss
            temperature = task.fit_temperature(logits, targets[judges])
    everything = store.mapped(taps, evidence.train)
    (fitted,) = fits.path(everything, targets, [l2], fitted)
    return Whole(fitted, l2, temperature, probabilities)


def _directions(evidence: Evidence, reuse: Reuse, features: npt.NDArray[np.float32]) -> Directions | None:
    if reuse.kind != "linear":
        return None
    return frame_of(ArrayRows((features,)), evidence.widths(reuse.taps)).directions


def _judges(evidence: Evidence, strata: Ints, beyond: Ints) -> Ints:
    """Return positions of training images beyond the sample to judge by; none if that would take most of them."""
    if len(beyond) < 2 * JUDGES:
        return beyond[:0]
    groups = evidence.store.table["group"].to_numpy()[evidence.train[beyond]]
    return beyond[sample(strata[beyond], groups, JUDGES, "judges")]
