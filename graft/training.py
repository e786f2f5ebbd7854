"""From cached features to a bundle: fit the chosen head and cut the backbone where the head reads it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from graft.answers import cached_logits
from graft.backbone import load_backbone
from graft.bundle import BundleSpec, ModelBundle, TapScore
from graft.head import Classifier, Head
from graft.judging import trusted_from_cache
from graft.probe import PENALTIES, Ints, balanced_weights, few, fit_path, standardisation
from graft.reuse import Evidence, Reuse, accuracy_interval
from graft.scores import accuracy, log_loss, softmax
from graft.whole import Whole, fit_whole


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
    rows = store.mapped(reuse.taps, evidence.train)
    mean, spread = standardisation(rows.read() if few(rows.shape) else rows, evidence.widths(reuse.taps))
    head = Head.of(whole.probe, reuse.taps, torch.from_numpy(mean), torch.from_numpy(spread))
    classifier = Classifier(backbone.truncated(reuse.taps[-1]), head).eval()
    spec = BundleSpec(
        labels=store.classes,
        backbone=classifier.backbone.spec,
        source_groups=backbone.spec.groups,
        head=classifier.head.spec,
        dataset_digest=store.spec.dataset_digest,
        l2=whole.l2,
        curve=tuple(
            TapScore(tap=tap, accuracy=a, low=low, high=high, log_loss=float(found.loss.mean()), l2=found.penalty)
            for tap, found in reuse.curve.items()
            for a, low, high in [accuracy_interval(found)]
        ),
        reuse_reason=reuse.reason,
        temperature=whole.temperature,
    )
    return trusted_from_cache(ModelBundle(spec, classifier), store)


def linear_head(
    features: npt.NDArray[np.float32],
    targets: Ints,
    n_classes: int,
    taps: Sequence[str],
    widths: Sequence[int],
    path: Sequence[float],
    *,
    weighted: bool = False,
) -> Head:
    """Fit a linear head.

    Args:
        features: (n, D), those of the taps side by side.
        targets: (n,).
        n_classes: number of classes.
        taps: which groups the features are of.
        widths: number of features of each.
        path: penalties from the strongest down to the one that counts: warm starts make the last fit short.
        weighted: whether every class counts the same.
    """
    weight = balanced_weights(targets, n_classes)[targets] if weighted else None
    *_, probe = fit_path(features, targets, n_classes, path, weight, widths)
    mean, spread = standardisation(features, widths)
    return Head.of(probe, taps, torch.from_numpy(mean), torch.from_numpy(spread))


def refitted_head(bundle: ModelBundle, features: npt.NDArray[np.float32], targets: Ints, *, weighted: bool) -> Head:
    """Fit a bundle's head anew on features (n, D) of other images and their classes (n,), at the penalty it has."""
    spec = bundle.spec
    widths = [spec.backbone.widths[spec.backbone.index(tap)] for tap in spec.head.taps]
    path = [*(penalty for penalty in PENALTIES if penalty > spec.l2), spec.l2]
    return linear_head(features, targets, len(spec.labels), spec.head.taps, widths, path, weighted=weighted)


def head_metrics(evidence: Evidence, reuse: Reuse, bundle: ModelBundle) -> dict[str, Any]:
    """Return what the step reports: the choice, the cross-validation and the validation images."""
    rows = evidence.store.indices("val")
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
    }
    if len(rows):
        logits = cached_logits(evidence.store, bundle, rows)
        probabilities = softmax(logits.astype(np.float64), bundle.spec.temperature)
        targets = evidence.store.targets()[rows]
        found["val"] = {
            "accuracy": float(accuracy(targets, probabilities)[0]),
            "log_loss": float(log_loss(targets, probabilities)[0]),
        }
    return found
