"""From the sample that chose to all training images: the head on every one of them, and an honest answer about each.

Where the sample is all there is, the folds have given the answers already. Otherwise a probe of the sample answers for
the images beyond it, which it never saw, and two things are measured anew at full size on some images held out: how far
the penalty can go down, since more images need less of it, and the temperature.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, softmax

from graft.blocks import Held, Rows
from graft.calibration import fit_temperature
from graft.probe import Ints, Linear, balanced_weights, fit_path, logits_of
from graft.reuse import Evidence, Reuse
from graft.sample import sample
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

    targets = evidence.store.targets()[evidence.train]
    sampled = np.isin(evidence.train, evidence.rows, assume_unique=True)
    probabilities = np.empty((len(targets), evidence.n_classes))
    probabilities[sampled] = honest
    probabilities[~sampled] = softmax(
        logits_of(probe, evidence.store.mapped(reuse.taps, evidence.train[~sampled])), axis=1
    )

    directions = frame_of(Held((features,)), evidence.widths(reuse.taps)).directions
    l2 = chosen.penalty
    judges = _judges(evidence, targets, np.flatnonzero(~sampled))
    if len(judges):
        others = np.delete(np.arange(len(targets)), judges)
        held_out = evidence.store.mapped(reuse.taps, evidence.train[judges])
        rows = evidence.store.mapped(reuse.taps, evidence.train[others])
        weaker = [penalty for penalty in evidence.penalties if penalty <= l2]
        least = np.inf
        for penalty, tried in zip(
            weaker, _path(evidence, reuse, rows, targets[others], weaker, probe, directions), strict=False
        ):
            logits = logits_of(tried, held_out)
            loss = float(-log_softmax(logits, axis=1)[np.arange(len(judges)), targets[judges]].mean())
            if loss >= least:
                break
            probe, l2, least = tried, penalty, loss
            temperature = fit_temperature(logits, targets[judges])
    everything = evidence.store.mapped(reuse.taps, evidence.train)
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
