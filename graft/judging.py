"""Fitting a bundle's `Trust`: from cached features, or by showing it the images again."""

from dataclasses import replace

import numpy as np
import torch

from graft.bundle import ModelBundle
from graft.dataset import ImageDataset
from graft.features import FeatureStore
from graft.trust import fit_trust

MOST_TRAINING_IMAGES = 2000
"""Class means and a few directions need no more."""


def trusted_from_cache(bundle: ModelBundle, store: FeatureStore) -> ModelBundle:
    """Return a bundle on frozen features with its trust fitted; no image is opened."""
    train, val = store.indices("train"), store.indices("val")
    train = _some(train)
    features = [
        np.concatenate([store.tap(tap)[rows] for tap in bundle.spec.head.taps], axis=1) for rows in (train, val)
    ]
    with torch.inference_mode():
        logits = bundle.classifier.head(torch.from_numpy(features[1])).numpy()
    targets = store.targets()
    trust = fit_trust(features[0], targets[train], features[1], bundle.probabilities(logits), targets[val])
    return replace(bundle, trust=trust)


def trusted(bundle: ModelBundle, images: ImageDataset) -> ModelBundle:
    """Return a bundle with its trust fitted to the features it computes itself, for a backbone trained further."""
    train, val = _some(images.indices("train")), images.indices("val")
    rows = np.concatenate([train, val])
    reader = images.reader()
    logits, features = bundle.logits_and_features((reader[row] for row in rows), "when to believe it", len(rows))
    own, held_out = slice(0, len(train)), slice(len(train), None)
    targets = images.targets()[rows]
    probabilities = bundle.probabilities(logits[held_out] if bundle.validation is None else bundle.validation)
    trust = fit_trust(features[own], targets[own], features[held_out], probabilities, targets[held_out])
    return replace(bundle, trust=trust)


def _some(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return evenly spaced rows, all of them if there are few."""
    if len(rows) <= MOST_TRAINING_IMAGES:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MOST_TRAINING_IMAGES).astype(np.int64)]
