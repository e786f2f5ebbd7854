"""From the sample that chose to all training images: the head on every one of them, and an honest answer about each.

Where the sample is all there is, the folds have given the answers already. Otherwise a probe of the sample answers for
the images beyond it, which it never saw, and two things are measured anew at full size on some images held out: how far
the penalty can go down, since more images need less of it, and the temperature.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from graft.blocks import Held, Rows
from graft.calibration import fit_temperature
from graft.probe import Ints, Linear, balanced_weights, fit_path, logits_of
from graft.reuse import Evidence, Reuse
from graft.sample import sample
from graft.scores import log_loss
from graft.solver import Directions, frame_of

JUDGES = 2_000
"""Images beyond the sample that are held out to measure penalty and temperature."""


@dataclass(frozen=True)
class Whole:
    """What all training images say."""

    probe: Linear
    l2: float
    """The penalty it was fitted with."""
    temperature: float
    probabilities: npt.NDArray[np.floating]
    """(n, classes), each training image predicted by a probe that has not seen it, in the order of `Evidence.train`."""


def fit_whole(evidence: Evidence, reuse: Reuse) -> Whole:
    """Fit the chosen linear head on all training images; memory does not grow with them but for `probabilities`."""
    chosen = reuse.chosen
    honest = chosen.probabilities[chosen.best]
    path = [penalty for penalty in chosen.penalties if penalty >= chosen.penalty]
    features = evidence.features(reuse.taps)
    *_, probe = _path(evidence, reuse, features, evidence.targets, path)
    temperature = fit_temperature(np.log(np.clip(honest, 1e-12, 1)), chosen.targets)
    if len(evidence.rows) == len(evidence.train):
        return Whole(probe, chosen.penalty, temperature, honest)
    directions = frame_of(Held((features,)), evidence.widths(reuse.taps)).directions
    return _enlarged(evidence, reuse, Whole(probe, chosen.penalty, temperature, honest), directions)


def _enlarged(evidence: Evidence, reuse: Reuse, sampled: Whole, directions: Directions) -> Whole:
    """Go from what the sample says to what all training images do."""
    store, taps = evidence.store, reuse.taps
    targets = store.targets()[evidence.train]
    within = np.isin(evidence.train, evidence.rows, assume_unique=True)
    probabilities = np.empty((len(targets), evidence.n_classes))
    probabilities[within] = sampled.probabilities
    probabilities[~within] = softmax(logits_of(sampled.probe, store.mapped(taps, evidence.train[~within])), axis=1)

    probe, l2, temperature = sampled.probe, sampled.l2, sampled.temperature
    judges = _judges(evidence, targets, np.flatnonzero(~within))
    if len(judges):
        held_out = store.mapped(taps, evidence.train[judges])
        others = np.delete(np.arange(len(targets)), judges)
        weaker = [penalty for penalty in evidence.penalties if penalty <= l2]
        rows = store.mapped(taps, evidence.train[others])
        least = np.inf
        for penalty, tried in zip(
            weaker, _path(evidence, reuse, rows, targets[others], weaker, probe, directions), strict=True
        ):
            logits = logits_of(tried, held_out)
            loss = float(log_loss(targets[judges], softmax(logits, axis=1))[0])
            if loss >= least:
                break
            probe, l2, least = tried, penalty, loss
            temperature = fit_temperature(logits, targets[judges])
    everything = store.mapped(taps, evidence.train)
    (probe,) = _path(evidence, reuse, everything, targets, [l2], probe, directions)
    return Whole(probe, l2, temperature, probabilities)


def _path(
    evidence: Evidence,
    reuse: Reuse,
    rows: npt.NDArray[np.float32] | Rows,
    targets: Ints,
    penalties: Sequence[float],
    start: Linear | None = None,
    directions: Directions | None = None,
) -> Iterator[Linear]:
    """Fit the chosen kind of head to some training images, penalty after penalty."""
    weight = None if evidence.class_weight is None else balanced_weights(targets, evidence.n_classes)[targets]
    widths = evidence.widths(reuse.taps)
    return fit_path(rows, targets, evidence.n_classes, penalties, weight, widths, start, directions)


def _judges(evidence: Evidence, targets: Ints, beyond: Ints) -> Ints:
    """Return positions of training images beyond the sample to judge by; none if that would take most of them."""
    if len(beyond) < 2 * JUDGES:
        return beyond[:0]
    groups = evidence.store.table["group"].to_numpy()[evidence.train[beyond]]
    return beyond[sample(targets[beyond], groups, JUDGES, "judges")]
