"""Fitting a bundle's `Abstention`: from cached features, or by running it on the images again."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from graft.backbones.feature_store import FeatureStore
from graft.data.dataset import ImageDataset
from graft.models.bundle import ModelBundle
from graft.models.inference import cached_logits, logits_and_distances
from graft.stats.abstention import calibrate_abstention, fit_abstention
from graft.stats.ood import OodDetector, fit_ood

MOST_TRAINING_IMAGES = 2000
"""Class means and a few directions need no more."""


def with_abstention_from_cache(bundle: ModelBundle, store: FeatureStore) -> ModelBundle:
    """Return a bundle on frozen features with its abstention rule fitted; no image is opened.

    Prediction sets need exactly one right label: bundles of other tasks are returned unchanged.
    """
    if not bundle.task.exclusive:
        return bundle
    train, val = _some(store.labelled("train")), store.labelled("val")
    taps, targets = bundle.spec.head.taps, store.targets()
    probabilities = bundle.probabilities(cached_logits(store, bundle, val))
    abstention = fit_abstention(
        store.mapped(taps, train).read(), targets[train], store.mapped(taps, val), probabilities, targets[val]
    )
    return replace(bundle, abstention=abstention)


def with_abstention(
    bundle: ModelBundle,
    images: ImageDataset,
    unseen: ModelBundle | None = None,
    val_logits: npt.NDArray[np.float32] | None = None,
) -> ModelBundle:
    """Return a bundle with its abstention rule fitted on the features it computes itself, for a fine-tuned backbone.

    Bundles of tasks without exactly one right label are returned unchanged.

    Args:
        bundle: the model to serve; if it was refit, it has seen the validation images.
        images: the dataset.
        unseen: the same model from before it saw the validation images: both thresholds rest on its scores of them,
            as a refit model's would promise too much. None: `bundle` itself has not seen them.
        val_logits: logits (n, C) of the validation images on which nothing was chosen; None: computed by `unseen`.
    """
    if not bundle.task.exclusive:
        return bundle
    unseen = unseen or bundle
    val, targets, reader = images.labelled("val"), images.targets(), images.reader()
    detector = _detector(unseen, images)
    logits, distances = logits_and_distances(unseen, detector, (reader[row] for row in val), "fit abstention", len(val))
    probabilities = bundle.probabilities(logits if val_logits is None else val_logits)
    served = detector if unseen.classifier is bundle.classifier else _detector(bundle, images)
    abstention = calibrate_abstention(served, distances, probabilities, targets[val])
    return replace(bundle, abstention=abstention)


def _detector(bundle: ModelBundle, images: ImageDataset) -> OodDetector:
    """Return the detector of a model's training features, without its threshold."""
    train, reader = _some(images.labelled("train")), images.reader()
    _, features = bundle.logits_and_features(
        (reader[row] for row in train), "fit out-of-distribution detector", len(train)
    )
    return fit_ood(features, images.targets()[train], len(bundle.spec.labels))


def _some(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return at most `MOST_TRAINING_IMAGES` of the rows, evenly spaced."""
    if len(rows) <= MOST_TRAINING_IMAGES:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MOST_TRAINING_IMAGES).astype(np.int64)]
