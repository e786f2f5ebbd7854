"""Every method on one case: the accuracy of each, and what the guards decide."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.adaptation.cases import Case, Halves
from benchmarks.adaptation.domains import SourceView, fit
from graft.adapt.adaptation import SERVED
from graft.adapt.class_shares import class_shares
from graft.adapt.comparisons import comparison_view
from graft.adapt.guards import agreement, agreement_guard, class_gap_guard, shift_guard
from graft.adapt.prototypes import pseudo_labels
from graft.adapt.standardisation import Match
from graft.adapt.view_heads import PULL, AdaptedViews, SourceHead, adapt_views
from graft.heads.feature_sample import SAMPLE_IMAGES
from graft.heads.linear_probe import fit_path
from graft.heads.protocols import Floats, TrainingSet
from graft.params.adapt import AdaptParams
from graft.quality.dataset_shift import embedding_shift

PARAMS = AdaptParams()
START, BOTH, GUARDED = "the model as it was", "`both`", "`both`, with guards"
WITH_IMAGES = "`both`, with the training images at hand"


class Outcome(NamedTuple):
    """One case, adapted."""

    name: str
    images: int
    accuracy: Mapping[str, float]
    """Of each method."""
    kept: bool
    """Whether the guards allow it."""
    agreement: float
    """Share of the images on which two views agree."""

    def change(self, method: str) -> float:
        """Return by how much a method's accuracy is higher than that of the model as it was."""
        return self.accuracy[method] - self.accuracy[START]


class Unseen(NamedTuple):
    """Accuracy on images that the adaptation did not see."""

    before: float
    after: float


def measure(case: Case, *, others: bool = False) -> Outcome:
    """Adapt to one target, and decide by the guards.

    Args:
        case: a source and a target.
        others: whether other methods are measured as well.
    """
    head = case.source.plain.head
    before = head.probabilities(case.plain)
    views = adapt_views(case.source.heads, [case.plain, case.normed])
    answers = {
        START: before,
        **(_other_methods(case, before) if others else {}),
        "`standardise`": views.views[SERVED["standardise"]][0].probabilities,
        "`batchnorm`": views.views[SERVED["batchnorm"]][0].probabilities,
        BOTH: views.probabilities,
    }
    accuracy = {name: float((found.argmax(1) == case.targets).mean()) for name, found in answers.items()}
    after = agreement(views.views[0].probabilities, views.views[1].probabilities)
    kept = _kept(case, head, views, before, after)
    accuracy[GUARDED] = accuracy[BOTH if kept else START]
    return Outcome(case.name, len(case.targets), accuracy, kept, after)


def measure_unseen(halves: Halves) -> Unseen:
    """Adapt to one half of a target, and return the accuracy on the other half before and after."""
    source, (seen, rest) = halves.seen.source, halves
    views = adapt_views(source.heads, [seen.plain, seen.normed])
    with torch.inference_mode():
        answers = [
            source.plain.task.probabilities(view.head(torch.from_numpy(features)).numpy())
            for view, features in zip(views.views, (rest.plain, rest.normed), strict=True)
        ]
    before = source.plain.head.probabilities(rest.plain)
    hits = [float((found.argmax(1) == rest.targets).mean()) for found in (before, np.mean(answers, axis=0))]
    return Unseen(*hits)


def _kept(case: Case, head: SourceHead, views: AdaptedViews, before: Floats, after: float) -> bool:
    features = case.source.plain.features
    rows = np.linspace(0, len(features) - 1, min(SAMPLE_IMAGES, len(features))).astype(int)
    known, new = features[rows].astype(np.float64), case.plain.astype(np.float64)
    names = np.arange(len(known) + len(new)).astype(str)
    shift = embedding_shift(known, new, (names[: len(known)], names[len(known) :]), ("s", "t"), 0, "features")
    first = agreement(before, views.views[1].start)
    guards = [
        shift_guard(shift, PARAMS),
        class_gap_guard(head.moments.shares, views.shares, head.task.labels, PARAMS),
        agreement_guard(first, after, PARAMS),
    ]
    return all(guard.passed for guard in guards)


def _other_methods(case: Case, before: Floats) -> dict[str, Floats]:
    source, head = case.source, case.source.plain.head
    standardised = Match.of(case.plain, head.moments, None, head.widths).apply(case.plain)
    coral = SourceView(_coral(source.plain.features, case.plain), source.plain.targets, source.plain.task)
    return {
        "BatchNorm of the target (AdaBN)": head.probabilities(case.normed),
        "BatchNorm of each domain, head fitted again": source.normed.head.probabilities(case.normed),
        "CORAL, head fitted again": coral.head.probabilities(case.plain),
        "features standardised per domain": head.probabilities(standardised),
        "prototypes (as SHOT's)": _shot(head, case.plain, before),
        "`label_propagation`": comparison_view("label_propagation", head, case.plain, case.plain).probabilities,
        WITH_IMAGES: _with_training_images(case),
    }


def _with_training_images(case: Case) -> Floats:
    """Adapt as `both` does, but fit the heads again to all training images and the pseudo-labelled ones together."""
    sources, shares = (case.source.plain, case.source.normed), None
    answers: Floats = np.zeros((0, sources[0].task.outputs))
    for again in (False, False, True):
        matched = [
            Match.of(view, source.head.moments, shares, source.head.widths).apply(view)
            for source, view in zip(sources, (case.plain, case.normed), strict=True)
        ]
        if not again:
            starts = [source.head.probabilities(view) for source, view in zip(sources, matched, strict=True)]
            answers = np.mean(starts, axis=0)
        found = []
        for source, view in zip(sources, matched, strict=True):
            labels = _pseudo_labels(view, answers)
            both = np.concatenate([source.features, view]), np.concatenate([source.targets, labels])
            found.append(source.task.probabilities(fit(*both, source.task).logits(view)))
        answers = np.mean(found, axis=0)
        shares = class_shares(answers, sources[0].head.moments.shares)
    return answers


def _coral(
    source: npt.NDArray[np.float32], target: npt.NDArray[np.float32], shrunk: float = 1.0
) -> npt.NDArray[np.float32]:
    """Return the source's features with the target's covariance (Sun et al. 2016), both shrunk to the identity."""
    spread = source.std(0).astype(np.float64) + 1e-6

    def root(features: npt.NDArray[np.float32], power: float) -> tuple[Floats, Floats]:
        scaled = features / spread
        centred = scaled - scaled.mean(0)
        values, vectors = np.linalg.eigh(centred.T @ centred / len(centred) + shrunk * np.eye(centred.shape[1]))
        return scaled.mean(0), (vectors * values**power) @ vectors.T

    (mean, whiten), (other, colour) = root(source, -0.5), root(target, 0.5)
    return np.asarray(((source / spread - mean) @ whiten @ colour + other) * spread, dtype=np.float32)


def _shot(head: SourceHead, features: npt.NDArray[np.float32], before: Floats) -> Floats:
    inner = head.inner(features)
    (rows,) = fit_path(TrainingSet(inner, _pseudo_labels(inner, before), head.task), [PULL], start=head.rows)
    return head.task.probabilities(rows.logits(inner))


def _pseudo_labels(features: npt.NDArray[np.floating], answers: Floats) -> npt.NDArray[np.int64]:
    return pseudo_labels((features - features.mean(0)) / (features.std(0) + 1e-6), answers)
