"""Logits and features of a stage's inputs; the processes that train together share the work."""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from graft.models.classifier import Classifier
from graft.training import distributed
from graft.training.labelled_images import LabelledImages, to_device
from graft.training.objective import Logits

BATCH = 64


class Compute(Protocol):
    """A function with the arguments of `Classifier.from_boundary` that returns one row per image."""

    def __call__(self, activation: torch.Tensor, after: str | None, below: list[torch.Tensor], /) -> torch.Tensor:
        """Return (b, anything)."""


def predict(classifier: Classifier, images: LabelledImages) -> Logits:
    """Return the logits (n, C) of images without augmentation, in eval mode."""
    classifier.eval()
    return _in_batches(classifier, images, lambda *inputs: classifier.from_boundary(*inputs))


def read_features(classifier: Classifier, images: LabelledImages) -> npt.NDArray[np.float32]:
    """Return the head's input features (n, D) of images without augmentation, in eval mode."""
    classifier.eval()
    return _in_batches(classifier, images, lambda *inputs: classifier.features(*inputs))


def _in_batches(classifier: Classifier, images: LabelledImages, compute: Compute) -> npt.NDArray[np.float32]:
    found = []
    device = next(classifier.parameters()).device
    mine = np.arange(len(images))[distributed.this_process().part(len(images))]
    with torch.inference_mode():
        for start in range(0, len(mine), BATCH):
            activation, below = to_device(device, *images.batch(mine[start : start + BATCH], 0))
            found.append(compute(activation, images.source.after, below).cpu().numpy())
    return distributed.gathered(np.concatenate(found) if found else None)
