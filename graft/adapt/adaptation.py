"""From a model and unlabelled images of another domain to an adapted model, or to the reason why it is left alone."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graft.adapt.comparisons import comparison_view
from graft.adapt.guards import agreement, agreement_guard, check_guard, class_gap_guard, images_guard, shift_guard
from graft.adapt.label_check import LabelledCheck
from graft.adapt.label_propagation import propagated
from graft.adapt.standardisation import Match
from graft.adapt.target_images import TargetImages
from graft.adapt.view_heads import AdaptedViews, SourceHead, adapt_views
from graft.core.errors import DataError, ModelError, ParamsError
from graft.heads.protocols import Floats
from graft.models.batch_norm import estimate_norms
from graft.models.bundle import ModelBundle
from graft.models.bundle_spec import Adaptation, Method
from graft.models.classifier import Classifier
from graft.models.two_views import Norms, TwoViews, has_batch_norm, with_norms
from graft.params.adapt import AdaptParams
from graft.quality.dataset_shift import Shift, embedding_shift
from graft.stats.abstention import calibrate_abstention
from graft.stats.confidence_intervals import Interval
from graft.stats.model_comparison import paired_rates
from graft.stats.ood import fit_ood
from graft.tasks.task import Bools

Features = npt.NDArray[np.float32]
SERVED: dict[Method, slice] = {
    "both": slice(0, 2),
    "standardise": slice(0, 1),
    "batchnorm": slice(1, 2),
    "coral": slice(0, 1),
    "label_propagation": slice(0, 1),
}
"""Which views the adapted model looks at; its heads are fitted with the help of all."""


class Checked(NamedTuple):
    """What labelled images of the target say."""

    before: Bools
    """Which answers of the model as it was are right, (m,)."""
    after: Bools
    """Of the adapted model."""

    @property
    def difference(self) -> Interval:
        """How much the accuracy rose, with the interval of the paired difference."""
        return paired_rates(self.after, self.before).difference


@dataclass(frozen=True)
class AdaptationResult:
    """An adapted model, or the model as it was."""

    bundle: ModelBundle
    """The adapted model if `record.kept`, else the given one."""
    record: Adaptation
    images: TargetImages
    """The images it was adapted to."""
    before: Floats
    """Probabilities of the model as it was for these images, (n, C)."""
    after: Floats | None
    """Of the adapted model, kept or not; None if it was not made."""
    checked: Checked | None = None


class _Views(NamedTuple):
    """Features of the same images in each view."""

    plain: Features
    normed: Features | None
    """Under the target's BatchNorm statistics; None for a backbone without BatchNorm."""
    norms: Norms | None

    @property
    def present(self) -> tuple[Features, ...]:
        """The views that there are."""
        return (self.plain,) if self.normed is None else (self.plain, self.normed)


def adapt(
    bundle: ModelBundle,
    images: TargetImages,
    params: AdaptParams,
    source: str,
    domain: str,
    check: LabelledCheck | None = None,
) -> AdaptationResult:
    """Adapt a model to images of which no label is known, if the guards allow it.

    Args:
        bundle: the model as it was trained.
        images: of the target domain; those of `check` are not among them.
        params: method and limits.
        source: address of the model, for the record.
        domain: name of the target domain.
        check: labelled images of the target, which then decide instead of the guards.

    Raises:
        DataError: if there are too few images.
        ModelError: if the model cannot be adapted.
        ParamsError: for a method that the backbone does not allow.
    """
    if bundle.further:
        raise ModelError(f"adapt: {source} answers several tasks; a model of one can be adapted")
    method = chosen_method(bundle, params)
    if earlier := bundle.spec.adaptation:
        raise ModelError(f"adapt: {source} is already adapted to {earlier.domain!r}; start from {earlier.source}")
    head = SourceHead.of(bundle)
    images = images.readable(bundle.transform).at_most(params.max_images)
    enough = images_guard(len(images), params)
    if not enough.passed:
        raise DataError(f"adapt: {images.folder}: {enough.sentence}")
    plain = images.features(bundle.classifier, bundle.transform, "features")
    before, shift = head.probabilities(plain), _measure_shift(bundle, plain, params)
    record = Adaptation(
        source=source,
        domain=domain,
        images=len(images),
        method=method,
        shift=(shift.auroc, shift.low, shift.high),
        shares_before=tuple(head.moments.shares),
        guards=(enough, shift_guard(shift, params)),
        why=shift_guard(shift, params).sentence,
    )
    if check is None and not record.guards[-1].passed:
        return AdaptationResult(bundle, record, images, before, None)
    seen = _views(bundle, images, plain, params)
    sources = (head, SourceHead.renormed(bundle))
    views = adapt_views(sources[: len(seen.present)], seen.present)
    if (method == "coral" or method == "label_propagation") and bundle.sample is not None:
        other = comparison_view(method, head, plain, bundle.sample.features)
        views = replace(views, views=(other, *views.views[1:]))
    agreed = _agreements(head, seen, views, before)
    answers = np.mean([view.probabilities for view in views.views[SERVED[method]]], axis=0)
    adapted = _bundle(bundle, views, method, seen.norms)
    guards = [
        *record.guards,
        class_gap_guard(head.moments.shares, views.shares, bundle.spec.labels, params),
        agreement_guard(*agreed, params),
    ]
    checked = None
    if check is not None:
        features = np.concatenate(seen.present[SERVED[method]], axis=1)
        adapted, checked = _judged(bundle, adapted, features, answers, check)
        guards.append(check_guard(checked.before, checked.after))
    deciding = guards if check is None else guards[-1:]
    stopped = next((guard for guard in deciding if not guard.passed), None)
    measured = {"shares": tuple(views.shares), "agreement_before": agreed[0], "agreement": agreed[1]}
    verdict = {"guards": tuple(guards), "kept": stopped is None, "why": (stopped or guards[-1]).sentence}
    record = record.model_copy(update=measured | verdict)
    adapted = replace(adapted, spec=adapted.spec.model_copy(update={"adaptation": record}))
    return AdaptationResult(bundle if stopped else adapted, record, images, before, answers, checked)


def chosen_method(bundle: ModelBundle, params: AdaptParams) -> Method:
    """Return the method for a model's backbone.

    Raises:
        ParamsError: if the requested one needs BatchNorm and the backbone has none.
    """
    known = has_batch_norm(bundle.backbone)
    if params.method == "auto":
        return "both" if known else "standardise"
    if params.method in ("both", "batchnorm") and not known:
        raise ParamsError(
            f"adapt.method={params.method}: {bundle.spec.backbone.architecture} has no BatchNorm; "
            "adapt.method=standardise needs none"
        )
    return params.method


def _measure_shift(bundle: ModelBundle, plain: Features, params: AdaptParams) -> Shift:
    if bundle.sample is None:
        raise ModelError("adapt: the model was trained by a version that kept no sample of features; train it again")
    known, new = bundle.sample.features.astype(np.float64), plain.astype(np.float64)
    names = np.arange(len(known) + len(new)).astype(str)
    groups = (names[: len(known)], names[len(known) :])
    return embedding_shift(known, new, groups, ("training", "target"), params.seed, "features")


def _views(bundle: ModelBundle, images: TargetImages, plain: Features, params: AdaptParams) -> _Views:
    if not has_batch_norm(bundle.backbone):
        return _Views(plain, None, None)
    transform = bundle.transform
    norms = estimate_norms(bundle.backbone, images.shuffled(transform, params.seed, "BatchNorm statistics"))
    classifier = Classifier(with_norms(bundle.backbone, norms), bundle.classifier.head).eval()
    return _Views(plain, images.features(classifier, transform, "features with these statistics"), norms)


def _agreements(head: SourceHead, seen: _Views, views: AdaptedViews, before: Floats) -> tuple[float, float]:
    """Return on how many images two views agree, before and after adaptation.

    Where there is one view, the second opinion is that of each image's neighbours.
    """
    first, last = views.views[0], views.views[-1]
    if seen.normed is not None:
        return agreement(before, last.start), agreement(first.probabilities, last.probabilities)
    matched = Match.of(seen.plain, head.moments, views.shares, head.widths).apply(seen.plain)
    neighbours = propagated(head.inner(matched), first.start)
    return agreement(before, first.start), agreement(first.probabilities, neighbours)


def _bundle(bundle: ModelBundle, views: AdaptedViews, method: Method, norms: Norms | None) -> ModelBundle:
    """Return the adapted model, without anything that was fitted to the source's images alone."""
    backbone, heads = bundle.backbone, [view.head for view in views.views]
    classifier = Classifier(backbone, heads[0]).eval()
    if norms is not None and method in ("both", "batchnorm"):
        other = Classifier(with_norms(backbone, norms), heads[1]).eval()
        classifier = other if method == "batchnorm" else TwoViews(classifier, other).eval()
    return ModelBundle(bundle.spec.model_copy(update={"temperature": 1.0}), classifier)


def _judged(
    before: ModelBundle, after: ModelBundle, features: Features, answers: Floats, check: LabelledCheck
) -> tuple[ModelBundle, Checked]:
    """Return the adapted model with its trust fitted on labelled images of the target, and what these say."""
    contents, task = check.contents(), before.task
    logits, held_out = after.logits_and_features(contents)
    right = [
        task.correct(probabilities, check.targets)
        for probabilities in (before.probabilities(before.logits(contents)), after.probabilities(logits))
    ]
    temperature = task.fit_temperature(logits, check.targets)
    fitted = replace(after, spec=after.spec.model_copy(update={"temperature": temperature}))
    detector = fit_ood(features, answers.argmax(axis=1), task.outputs)
    probabilities = fitted.probabilities(logits)
    abstention = calibrate_abstention(detector, detector.distances(held_out), probabilities, check.targets)
    return replace(fitted, abstention=abstention), Checked(right[0], right[1])
