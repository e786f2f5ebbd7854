"""Logits and out-of-distribution distances of many images, from image files or cached features."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from graft.backbones.feature_store import FeatureStore
from graft.core.row_blocks import fill_by_block
from graft.models.bundle import ModelBundle
from graft.stats.metrics import Values
from graft.stats.ood import OodDetector

SCORED_AT_ONCE = 512
"""Number of images whose features are scored together."""


def logits_and_distances(
    model: ModelBundle, detector: OodDetector | None, images: Iterable[bytes], what: str, total: int
) -> tuple[npt.NDArray[np.float32], Values]:
    """Return logits (n, C) of image files and their distances (n,) to the training images; zeros without a detector.

    Features are dropped as soon as their distance is known.

    Args:
        model: computes logits and features.
        detector: measures the features; its threshold may still be unknown.
        images: contents of the files.
        what: title of the progress bar.
        total: number of images n.
    """
    logits, distances = np.zeros((total, len(model.spec.labels)), np.float32), np.zeros(total)
    waiting: list[npt.NDArray[np.float32]] = []
    done = scored = 0
    for batch_logits, batch_features in model.stream(images, what, total):
        logits[done : done + len(batch_logits)] = batch_logits
        done += len(batch_logits)
        if detector is None:
            continue
        waiting.append(batch_features)
        if done - scored >= SCORED_AT_ONCE or done == total:
            distances[scored:done] = detector.distances(np.concatenate(waiting))
            waiting.clear()
            scored = done
    return logits, distances


def cached_logits(store: FeatureStore, head: ModelBundle, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the logits (n, C) of a head on frozen features, from the cache: no image is opened."""
    features = store.mapped(head.spec.head.taps, rows)
    with torch.inference_mode():
        return fill_by_block(
            lambda block: head.classifier.head(torch.from_numpy(block)).numpy(),
            features,
            np.empty((len(rows), len(head.spec.labels)), np.float32),
        )


def cached_logits_and_distances(
    store: FeatureStore, model: ModelBundle, rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], Values]:
    """Return logits (n, C) and distances (n,) as `logits_and_distances` does, from cached features.

    Only for a model whose backbone was not trained: it would compute these features again.
    """
    features = store.mapped(model.spec.head.taps, rows)
    distances = model.abstention.detector.distances(features) if model.abstention else np.zeros(len(rows))
    return cached_logits(store, model, rows), distances
