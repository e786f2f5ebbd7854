"""Other methods by name, to compare with: CORAL, and label propagation. Each makes one view from the plain features."""

from typing import Literal

import numpy as np

from graft.adapt.label_propagation import propagated
from graft.adapt.standardisation import Features, Match
from graft.adapt.view_heads import PULL, AdaptedView, SourceHead
from graft.core.errors import ModelError
from graft.heads.lbfgs import floor_spread, single_threaded_blas
from graft.heads.linear_probe import Linear, fit_path
from graft.heads.protocols import Floats, TrainingSet

Comparison = Literal["coral", "label_propagation"]
SHRUNK = 1.0
"""How far each covariance is shrunk to the identity: a few hundred images say little about it."""


def comparison_view(method: Comparison, source: SourceHead, target: Features, sample: Features) -> AdaptedView:
    """Return the target's view under another method.

    Args:
        method: its name.
        source: the model's head.
        target: features (n, D) of the target's images.
        sample: features (m, D) of some training images.

    Raises:
        ModelError: for `coral` and a head that is not linear.
    """
    return _coral(source, target, sample) if method == "coral" else _propagated(source, target)


def _coral(source: SourceHead, target: Features, sample: Features) -> AdaptedView:
    """Map the target's covariance to the source's (Sun, Feng and Saenko 2016); the head stays as it was."""
    if source.head.spec.kind != "linear":
        raise ModelError(f"adapt.method=coral: needs a linear head, not {source.head.spec.kind!r}")
    spread = floor_spread(np.sqrt(source.moments.mixed()[1]), source.widths)
    whiten, colour = _root(target / spread, -0.5), _root(sample / spread, 0.5)
    turned = whiten @ colour * spread / spread[:, None]
    mean, scale = source.head.mean.double().numpy(), source.head.scale.double().numpy()
    moved = source.moments.mixed()[0]
    weight = (source.rows.weight / scale) @ turned.T
    bias = source.rows.bias + source.rows.weight @ ((moved - mean) / scale)
    found = Linear.of_raw(weight, bias - weight @ target.mean(axis=0, dtype=np.float64))
    before = source.probabilities(Match.of(target, source.moments, None, source.widths).apply(target))
    return AdaptedView(source.raw(found), before, source.task.probabilities(found.logits(target)))


def _propagated(source: SourceHead, target: Features) -> AdaptedView:
    """Refit the head to the answers that neighbouring images agree on."""
    match = Match.of(target, source.moments, None, source.widths)
    matched = match.apply(target)
    inner, start = source.inner(matched), source.probabilities(matched)
    labels = propagated(inner, start).argmax(axis=1)
    with single_threaded_blas():
        (rows,) = fit_path(TrainingSet(inner, labels, source.task), [PULL], start=source.rows)
    return AdaptedView(source.refitted(rows, match), start, source.task.probabilities(rows.logits(inner)))


def _root(features: Features, power: float) -> Floats:
    """Return a power of the shrunk covariance of features (n, D), (D, D)."""
    centred = features - features.mean(axis=0, dtype=np.float64)
    covariance = centred.T @ centred / len(centred) + SHRUNK * np.eye(centred.shape[1])
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * values**power) @ vectors.T, dtype=np.float64)
