"""From the logits of a photo's square to its answer: a mask at the photo's own size, and how sure it is.

A server runs this too, so it needs torch and Pillow and nothing of a backbone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from graft.imaging.letterbox import Box, classes_in_photo


@dataclass(frozen=True)
class MaskAnswer:
    """The answer for one photo."""

    mask: npt.NDArray[np.uint8]
    """Class index of every pixel, (photo_height, photo_width)."""
    share: tuple[float, ...]
    """Share of the photo of every class."""
    confidence: tuple[float | None, ...]
    """Mean probability of every class where it is the answer; None where it is nowhere."""
    predicted_iou: float
    """Expected intersection over union of the objects, by the probabilities alone."""

    def columns(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return the numbers by class name."""
        sure = {name: value for name, value in zip(labels, self.confidence, strict=True) if value is not None}
        return {
            "share": dict(zip(labels, self.share, strict=True)),
            "confidence": sure,
            "predicted_iou": self.predicted_iou,
        }


def answer(logits: torch.Tensor, box: Box, size: int, temperature: float = 1.0) -> MaskAnswer:
    """Return the answer for the logits (k, h, w) of a photo's square of `size` pixels."""
    square = F.interpolate(logits[None], size=(size, size), mode="bilinear", align_corners=False)[0]
    mask = classes_in_photo(square, box)
    classes = len(square)
    share = np.bincount(mask.ravel(), minlength=classes)[:classes] / mask.size
    probabilities = (square[:, : box.height, : box.width] / temperature).softmax(0)
    chosen = probabilities.argmax(0)
    sure: list[float | None] = []
    expected: list[float] = []
    for label in range(classes):
        own, there = probabilities[label], chosen == label
        sure.append(float(own[there].mean()) if bool(there.any()) else None)
        if label and bool(there.any()):
            expected.append(float(own[there].sum() / (there.sum() + own[~there].sum())))
    nothing = float(probabilities[0].min()) if classes > 1 else 1.0
    predicted = float(np.mean(expected)) if expected else nothing
    return MaskAnswer(mask, tuple(share.tolist()), tuple(sure), predicted)
