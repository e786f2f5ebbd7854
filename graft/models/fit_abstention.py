"""Fitting a bundle's `Trust`: from cached features, or by showing it the images again."""

from dataclasses import replace

import numpy as np

from graft.backbones.feature_store import FeatureStore
from graft.data.dataset import ImageDataset
from graft.models.bundle import ModelBundle
from graft.models.inference import answered, cached_logits
from graft.stats.abstention import calibrated_trust, fit_trust
from graft.stats.ood import fit_ood

MOST_TRAINING_IMAGES = 2000
"""Class means and a few directions need no more."""


def trusted_from_cache(bundle: ModelBundle, store: FeatureStore) -> ModelBundle:
    """Return a bundle on frozen features with its trust fitted; no image is opened.

    Prediction sets need one right label: bundles of other tasks are returned as they are.
    """
    if not bundle.task.exclusive:
        return bundle
    train, val = _some(store.labelled("train")), store.labelled("val")
    taps, targets = bundle.spec.head.taps, store.targets()
    probabilities = bundle.probabilities(cached_logits(store, bundle, val))
    trust = fit_trust(
        store.mapped(taps, train).read(), targets[train], store.mapped(taps, val), probabilities, targets[val]
    )
    return replace(bundle, trust=trust)


def trusted(bundle: ModelBundle, images: ImageDataset) -> ModelBundle:
    """Return a bundle with its trust fitted to the features it computes itself, for a backbone trained further.

    Bundles of tasks without one right label are returned as they are.
    """
    if not bundle.task.exclusive:
        return bundle
    train, val = _some(images.labelled("train")), images.labelled("val")
    reader, targets = images.reader(), images.targets()
    _, features = bundle.logits_and_features((reader[row] for row in train), "what it knows", len(train))
    detector = fit_ood(features, targets[train], len(bundle.spec.labels))
    logits, scores = answered(bundle, detector, (reader[row] for row in val), "when to believe it", len(val))
    probabilities = bundle.probabilities(logits if bundle.validation is None else bundle.validation)
    trust = calibrated_trust(detector, scores, probabilities, targets[val])
    return replace(bundle, trust=trust)


def _some(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return evenly spaced rows, all of them if there are few."""
    if len(rows) <= MOST_TRAINING_IMAGES:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MOST_TRAINING_IMAGES).astype(np.int64)]
