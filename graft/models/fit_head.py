"""From cached features to a bundle: fit the chosen head and cut the backbone where the head reads it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from graft.backbones.backbone import load_backbone
from graft.heads.depth_selection import Evidence, Reuse, accuracy_interval
from graft.heads.families import family
from graft.heads.full_fit import Whole, fit_whole
from graft.heads.label_overlap import zero_shot
from graft.heads.linear_probe import CrossValidated
from graft.models.bundle import ModelBundle
from graft.models.bundle_spec import BundleSpec, HeadScore, TapScore
from graft.models.classifier import Classifier, Head
from graft.models.fit_abstention import trusted_from_cache
from graft.models.inference import cached_logits
from graft.tasks.task import Targets


def fit_head(evidence: Evidence, reuse: Reuse) -> ModelBundle:
    """Fit the head on all training images with the cross-validated penalty.

    Its temperature comes from predictions of images that were held out, so that it owes nothing to the validation
    images.
    """
    return head_of(evidence, reuse, fit_whole(evidence, reuse))


def head_of(evidence: Evidence, reuse: Reuse, whole: Whole) -> ModelBundle:
    """Return the chosen head as a bundle."""
    store = evidence.store
    backbone = load_backbone(store.backbone_folder)
    classifier = Classifier(backbone.truncated(reuse.taps[-1]), Head.of(whole.fitted, reuse.taps)).eval()
    spec = BundleSpec(
        labels=store.classes,
        task=store.task,
        backbone=classifier.backbone.spec,
        source_groups=backbone.spec.groups,
        head=classifier.head.spec,
        dataset_digest=store.spec.dataset_digest,
        l2=whole.l2,
        curve=tuple(TapScore(tap=tap, **_scores(found)) for tap, found in reuse.curve.items()),
        reuse_reason=reuse.reason,
        heads=tuple(HeadScore(kind=kind, **_scores(found)) for kind, found in reuse.heads.items()),
        source_labels=evidence.overlap.labels if evidence.overlap else {},
        zero_shot=tuple(zero_shot(store, evidence.overlap)) if evidence.overlap else (),
        started_from_source=reuse.start is not None,
        temperature=whole.temperature,
    )
    return trusted_from_cache(ModelBundle(spec, classifier, start=reuse.start), store)


def _scores(found: CrossValidated) -> dict[str, float]:
    accuracy, low, high = accuracy_interval(found)
    return {
        "accuracy": accuracy,
        "low": low,
        "high": high,
        "log_loss": float(found.loss.mean()),
        "l2": found.penalty,
    }


def refitted_head(bundle: ModelBundle, features: npt.NDArray[np.float32], targets: Targets, *, weighted: bool) -> Head:
    """Fit a bundle's head anew on features (n, D) of other images and their classes (n,), at the penalty it has."""
    spec = bundle.spec
    widths = [spec.backbone.widths[spec.backbone.index(tap)] for tap in spec.head.taps]
    kind = family(spec.head.kind, bundle.start)
    return Head.of(kind.at(spec.l2, features, targets, bundle.task, widths, weighted=weighted), spec.head.taps)


def head_metrics(evidence: Evidence, reuse: Reuse, bundle: ModelBundle) -> dict[str, Any]:
    """Return what the step reports: the choice, the cross-validation and the validation images."""
    rows = evidence.store.labelled("val")
    value, low, high = accuracy_interval(reuse.chosen)
    found: dict[str, Any] = {
        "depth": bundle.spec.backbone.depth,
        "taps": list(reuse.taps),
        "reason": reuse.reason,
        "head": bundle.spec.head.kind,
        "l2": bundle.spec.l2,
        "temperature": round(bundle.spec.temperature, 4),
        "cv": {"accuracy": value, "low": low, "high": high, "log_loss": float(reuse.chosen.loss.mean())},
        "val": {},
        "curve": [point.model_dump(mode="json") for point in bundle.spec.curve],
        "heads": [score.model_dump(mode="json") for score in bundle.spec.heads],
        "source_labels": {name: list(labels) for name, labels in bundle.spec.source_labels.items()},
        "zero_shot": {score.split: score.model_dump(exclude={"split"}) for score in bundle.spec.zero_shot},
    }
    if len(rows):
        logits = cached_logits(evidence.store, bundle, rows)
        probabilities, targets = bundle.probabilities(logits), evidence.store.targets()[rows]
        metrics = bundle.task.metrics()
        found["val"] = {
            name: float(metrics[name](targets, probabilities, None)[0]) for name in ("accuracy", "log_loss")
        }
    return found
