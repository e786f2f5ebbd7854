"""The method: each view of the target gets a head of its own, fitted to pseudo-labels and pulled to the source's head.

A view is the target's features under some statistics of the network. Its features are matched to the source's moments
(see `standardisation`), the source's head for that view answers (see `renormed_head`), and the mean of all views'
answers is where the prototypes start (see `prototypes`). The head is then refitted to each view's own pseudo-labels,
pulled to where it was (L2-SP, Li et al. 2018). The class shares that its answers speak for (see `class_shares`) make a
better match, and the answers better prototypes, so all of it is repeated. Nothing here sees a label of the target.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from graft.adapt.class_shares import class_shares
from graft.adapt.prototypes import pseudo_labels
from graft.adapt.standardisation import Features, Match
from graft.core.errors import ModelError
from graft.heads.class_moments import ClassMoments
from graft.heads.lbfgs import single_threaded_blas
from graft.heads.linear_probe import Linear, fit_path
from graft.heads.protocols import Floats, TrainingSet
from graft.models.bundle import ModelBundle
from graft.models.classifier import Head
from graft.tasks.task import Task

PULL = 1e-3
"""Penalty of the distance from the source's head, in the units of `fit_path`."""


@dataclass(frozen=True)
class SourceHead:
    """A model's head as adaptation needs it: fixed layers, then rows that can be refitted; calibrated."""

    head: Head
    rows: Linear
    """Of the last layer, divided by the temperature."""
    moments: ClassMoments
    """Of the features that the head reads."""
    widths: tuple[int, ...]
    """Number of features of each group that it reads."""
    task: Task

    @classmethod
    def of(cls, bundle: ModelBundle) -> "SourceHead":
        """Return the head of a model.

        Raises:
            ModelError: if the model cannot be adapted, with the reason.
        """
        head = bundle.classifier.head
        if not bundle.task.exclusive:
            raise ModelError(f"adapt: a model of kind {bundle.task.kind!r} has no classes to adapt")
        if bundle.moments is None:
            raise ModelError("adapt: the model was trained by a version that kept no class moments; train it again")
        if not isinstance(head.linear, torch.nn.Linear):
            raise ModelError(f"adapt: a head of kind {head.spec.kind!r} cannot be refitted; train_head.head=linear can")
        return cls._of(head, bundle.moments, bundle)

    @classmethod
    def renormed(cls, bundle: ModelBundle) -> "SourceHead":
        """Return the head for features under other BatchNorm statistics; the model's own if it keeps no other."""
        kept = bundle.renormed
        return cls.of(bundle) if kept is None else cls._of(kept.head, kept.moments, bundle)

    @classmethod
    def _of(cls, head: Head, moments: ClassMoments, bundle: ModelBundle) -> "SourceHead":
        assert isinstance(head.linear, torch.nn.Linear)
        spec = bundle.spec
        rows = [parameter.detach().double().numpy() for parameter in (head.linear.weight, head.linear.bias)]
        calibrated = Linear.of_raw(rows[0] / spec.temperature, rows[1] / spec.temperature)
        widths = tuple(spec.backbone.widths[spec.backbone.index(tap)] for tap in spec.head.taps)
        return cls(head, calibrated, moments, widths, bundle.task)

    def inner(self, features: Features) -> npt.NDArray[np.float32]:
        """Return what the last layer reads, (n, H), of features (n, D)."""
        standardised = (features - self.head.mean.numpy()) / self.head.scale.numpy()
        with torch.inference_mode():
            found: npt.NDArray[np.float32] = self.head.hidden(torch.from_numpy(standardised.astype(np.float32))).numpy()
        return found

    def probabilities(self, features: Features) -> Floats:
        """Return the probabilities (n, C) of features (n, D)."""
        return self.task.probabilities(self.rows.logits(self.inner(features)))

    def raw(self, rows: Linear) -> Head:
        """Return a head with these rows of raw features as its only layer."""
        made = Head.of(rows, self.head.spec.taps)
        return made.eval()

    def refitted(self, rows: Linear, match: Match) -> Head:
        """Return a head for raw features of the target, with these rows as its last layer."""
        made = Head(self.head.spec, self.task.outputs)
        mean, scale = match.undone(self.head.mean.double().numpy(), self.head.scale.double().numpy())
        made.load_state_dict(
            self.head.state_dict()
            | {"mean": _float32(mean), "scale": _float32(scale)}
            | {"linear.weight": _float32(rows.weight), "linear.bias": _float32(rows.bias)}
        )
        return made.eval()


@dataclass(frozen=True)
class AdaptedView:
    """One view after adaptation."""

    head: Head
    """Reads raw features of the target; its logits need no temperature."""
    start: Floats
    """Probabilities (n, C) of the source's head on the matched features."""
    probabilities: Floats
    """Of the new head, (n, C)."""


@dataclass(frozen=True)
class AdaptedViews:
    """All views after adaptation."""

    views: tuple[AdaptedView, ...]
    probabilities: Floats
    """The mean over the views, (n, C)."""
    shares: Floats
    """The classes' estimated shares of the target's images, (C,)."""


def adapt_views(sources: Sequence[SourceHead], views: Sequence[Features]) -> AdaptedViews:
    """Fit a head to each view of the target's images.

    Args:
        sources: the model's head for each view.
        views: features (n, D) of the same n images.
    """
    shares: Floats | None = None
    answers = np.zeros((0, sources[0].task.outputs))
    for again in (False, False, True):
        # Twice from the source's answers: by then the shares have settled. The last time from the adapted ones.
        pairs = list(zip(sources, views, strict=True))
        matches = [Match.of(view, source.moments, shares, source.widths) for source, view in pairs]
        matched = [match.apply(view) for match, view in zip(matches, views, strict=True)]
        if not again:
            starts = [source.probabilities(features) for source, features in zip(sources, matched, strict=True)]
            answers = _mean(starts)
        fitted = [
            _refit(source, source.inner(features), answers) for source, features in zip(sources, matched, strict=True)
        ]
        found = [probabilities for _, probabilities in fitted]
        answers = _mean(found)
        shares = class_shares(answers, sources[0].moments.shares)
    adapted = (
        AdaptedView(source.refitted(rows, match), start, probabilities)
        for source, (rows, probabilities), match, start in zip(sources, fitted, matches, starts, strict=True)
    )
    assert shares is not None
    return AdaptedViews(tuple(adapted), answers, shares)


def _refit(source: SourceHead, inner: npt.NDArray[np.float32], answers: Floats) -> tuple[Linear, Floats]:
    """Return the last layer fitted to pseudo-labels of features (n, H), and its probabilities (n, C)."""
    mean, spread = inner.mean(axis=0, dtype=np.float64), inner.std(axis=0, dtype=np.float64)
    labels = pseudo_labels((inner - mean) / np.maximum(spread, 1e-6), answers)
    with single_threaded_blas():
        (rows,) = fit_path(TrainingSet(inner, labels, source.task), [PULL], start=source.rows)
    return rows, source.task.probabilities(rows.logits(inner))


def _mean(probabilities: Sequence[Floats]) -> Floats:
    return np.asarray(np.mean(probabilities, axis=0), dtype=np.float64)


def _float32(values: Floats) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
