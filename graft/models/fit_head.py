"""From cached features to a bundle: fit the chosen head and cut the backbone where the head reads it."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from graft.backbones.backbone import load_backbone
from graft.backbones.feature_store import FeatureStore
from graft.core.row_blocks import Array32, MappedRows
from graft.heads.class_moments import ClassMoments
from graft.heads.depth_selection import HeadChoice, accuracy_interval
from graft.heads.families import family
from graft.heads.feature_sample import FeatureSample
from graft.heads.full_fit import FullFit, fit_to_all_images
from graft.heads.head_inputs import HeadInputs, Scored
from graft.heads.label_overlap import zero_shot
from graft.models.bundle import ModelBundle
from graft.models.bundle_spec import BundleSpec, HeadScore, TapScore
from graft.models.classifier import Classifier, Head
from graft.models.fit_abstention import with_abstention_from_cache
from graft.models.inference import cached_logits
from graft.tasks.task import Targets, Task


def fit_head(inputs: HeadInputs, choice: HeadChoice) -> ModelBundle:
    """Fit the head on all training images with the cross-validated penalty.

    Its temperature comes from predictions for held-out training images, so it does not depend on the validation images.
    """
    return make_head_bundle(inputs, choice, fit_to_all_images(inputs, choice))


def make_head_bundle(
    inputs: HeadInputs, choice: HeadChoice, full_fit: FullFit, threshold: str = "max_f1"
) -> ModelBundle:
    """Return the chosen head as a bundle.

    Args:
        inputs: features and folds of the training images.
        choice: of the head.
        full_fit: the head, fitted to all of them.
        threshold: what a label's threshold should reach, for a task that has one for each (see `Task.decided`).
    """
    store = inputs.store
    backbone = load_backbone(store.backbone_folder)
    classifier = Classifier(backbone.truncated(choice.taps[-1]), Head.of(full_fit.fitted, choice.taps)).eval()
    spec = BundleSpec(
        labels=store.classes,
        task=_calibrated(inputs, full_fit),
        backbone=classifier.backbone.spec,
        source_groups=backbone.spec.groups,
        head=classifier.head.spec,
        dataset_digest=store.spec.dataset_digest,
        l2=full_fit.l2,
        weighted=inputs.label_weights is not None,
        prior_share=full_fit.prior_share,
        curve=_curve(inputs, choice),
        reuse_reason=choice.reason,
        heads=tuple(HeadScore(kind=kind, **_scores(found)) for kind, found in choice.heads.items()),
        source_labels=inputs.overlap.labels if inputs.overlap else {},
        zero_shot=tuple(zero_shot(store, inputs.overlap)) if inputs.overlap else (),
        started_from_source=choice.start is not None,
        temperature=full_fit.temperature,
    )
    rows = inputs.train
    features, groups = store.mapped(choice.taps, rows), store.table["group"].to_numpy()[rows]
    bundle = with_feature_statistics(
        ModelBundle(spec, classifier, start=choice.start), features, store.targets()[rows], groups
    )
    return with_abstention_from_cache(with_thresholds(bundle, store, threshold), store)


def _calibrated(inputs: HeadInputs, full_fit: FullFit) -> Task:
    task = inputs.task
    if task.exclusive:  # its temperature is all there is
        return task
    return task.calibrated(task.logits(full_fit.probabilities), inputs.store.targets()[inputs.train])


def with_thresholds(bundle: ModelBundle, store: FeatureStore, goal: str) -> ModelBundle:
    """Return the bundle with the thresholds that its task's answers need, chosen on the validation images."""
    rows = store.labelled("val")
    if bundle.task.exclusive or not len(rows):
        return bundle
    probabilities = bundle.probabilities(cached_logits(store, bundle, rows))
    decided = bundle.task.decided(probabilities, store.targets()[rows], goal)
    return replace(bundle, spec=bundle.spec.model_copy(update={"task": decided}))


def with_feature_statistics(
    bundle: ModelBundle, features: Array32 | MappedRows, targets: Targets, groups: npt.NDArray[Any]
) -> ModelBundle:
    """Return a bundle that knows the class moments and a sample of its head's features.

    Bundles of tasks in which an image is not of exactly one class are returned unchanged.

    Args:
        bundle: the model.
        features: of the images that the head was fitted to, (n, D).
        targets: of these images.
        groups: names of their groups, (n,).
    """
    if not bundle.task.exclusive:
        return bundle
    moments = ClassMoments.of(features, targets, bundle.task.outputs)
    return replace(bundle, moments=moments, sample=FeatureSample.of(features, groups))


def _curve(inputs: HeadInputs, choice: HeadChoice) -> tuple[TapScore, ...]:
    """Return the probe after every group, compared image by image with the best of them."""
    best = min(choice.curve.values(), key=lambda found: float(found.loss.mean()))
    points = []
    for tap, found in choice.curve.items():
        behind, error = inputs.compare(found, best)
        points.append(TapScore(tap=tap, behind=behind, error=error, **_scores(found)))
    return tuple(points)


def _scores(found: Scored) -> dict[str, float]:
    accuracy, low, high = accuracy_interval(found)
    return {
        "accuracy": accuracy,
        "low": low,
        "high": high,
        "log_loss": float(found.loss.mean()),
        "l2": found.penalty,
    }


def refit_head(bundle: ModelBundle, features: npt.NDArray[np.float32], targets: Targets, *, weighted: bool) -> Head:
    """Refit a bundle's head on features (n, D) of other images and their classes (n,), with the same penalty."""
    spec = bundle.spec
    widths = [spec.backbone.widths[spec.backbone.index(tap)] for tap in spec.head.taps]
    kind = family(spec.head.kind, bundle.start)
    fitted = kind.fit_at(
        spec.l2, features, targets, bundle.task, widths, weighted=weighted, prior_share=spec.prior_share
    )
    return Head.of(fitted, spec.head.taps)


def head_metrics(inputs: HeadInputs, choice: HeadChoice, bundle: ModelBundle) -> dict[str, Any]:
    """Return the step's metrics: of the choice, the cross-validation and the validation images."""
    rows = inputs.store.labelled("val")
    value, low, high = accuracy_interval(choice.cross_validated)
    found: dict[str, Any] = {
        "depth": bundle.spec.backbone.depth,
        "taps": list(choice.taps),
        "reason": choice.reason,
        "head": bundle.spec.head.kind,
        "l2": bundle.spec.l2,
        "temperature": round(bundle.spec.temperature, 4),
        "prior_share": round(bundle.spec.prior_share, 4),
        "left_out_of_calibration": int((~inputs.judged).sum()),
        "cv": {"accuracy": value, "low": low, "high": high, "log_loss": float(choice.cross_validated.loss.mean())},
        "val": {},
        "curve": [point.model_dump(mode="json") for point in bundle.spec.curve],
        "heads": [score.model_dump(mode="json") for score in bundle.spec.heads],
        "source_labels": {name: list(labels) for name, labels in bundle.spec.source_labels.items()},
        "zero_shot": {score.split: score.model_dump(exclude={"split"}) for score in bundle.spec.zero_shot},
    }
    if len(rows):
        logits = cached_logits(inputs.store, bundle, rows)
        probabilities, targets = bundle.probabilities(logits), inputs.store.targets()[rows]
        metrics = bundle.task.metrics()
        found["val"] = {
            name: float(metrics[name](targets, probabilities, None)[0]) for name in ("accuracy", "log_loss")
        }
    return found
