"""What the head and the fine-tuned model say about the validation and test images."""

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
"""Images whose features wait to be looked at together."""


def answered(
    model: ModelBundle, detector: OodDetector | None, images: Iterable[bytes], what: str, total: int
) -> tuple[npt.NDArray[np.float32], Values]:
    """Return the logits (n, C) of image files and how foreign each is (n,); zeros without a detector.

    The features that a detector looks at are forgotten as soon as it has.

    Args:
        model: computes both.
        detector: of foreign images.
        images: files' contents.
        what: is going on, for the progress.
        total: number of images n.
    """
    logits, ood = np.zeros((total, len(model.spec.labels)), np.float32), np.zeros(total)
    waiting: list[npt.NDArray[np.float32]] = []
    done = scored = 0
    for said, read in model.stream(images, what, total):
        logits[done : done + len(said)] = said
        done += len(said)
        if detector is None:
            continue
        waiting.append(read)
        if done - scored >= SCORED_AT_ONCE or done == total:
            ood[scored:done] = detector.scores(np.concatenate(waiting))
            waiting.clear()
            scored = done
    return logits, ood


def cached_logits(store: FeatureStore, head: ModelBundle, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the logits (n, C) of a head on frozen features, from the cache: no image is opened."""
    features = store.mapped(head.spec.head.taps, rows)
    with torch.inference_mode():
        return fill_by_block(
            lambda block: head.classifier.head(torch.from_numpy(block)).numpy(),
            features,
            np.empty((len(rows), len(head.spec.labels)), np.float32),
        )
