"""What a decoder minimises: cross-entropy of every pixel, and one minus the soft Dice coefficient of every class."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from graft.tasks.pixels import IGNORED

SMOOTH = 1.0
"""Pixels added to both sides of the Dice coefficient: a class of no pixels is not divided by zero."""


def mask_loss(logits: torch.Tensor, masks: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Return cross-entropy plus the soft Dice loss (Milletari et al., 2016) of a batch.

    Args:
        logits: (B, k, S, S).
        masks: class indices, int64 (B, S, S); pixels marked `IGNORED` do not count.
        weights: of the classes in the cross-entropy, (k,).
    """
    pixels = F.cross_entropy(logits, masks, weight=weights, ignore_index=IGNORED)
    counted = (masks != IGNORED)[:, None]
    probabilities = logits.softmax(1) * counted
    truth = F.one_hot(masks.clamp(max=logits.shape[1] - 1), logits.shape[1]).permute(0, 3, 1, 2) * counted
    both = (probabilities * truth).sum((0, 2, 3))
    areas = (probabilities + truth).sum((0, 2, 3))
    dice = (2 * both + SMOOTH) / (areas + SMOOTH)
    there = truth.sum((0, 2, 3)) > 0
    return pixels + 1 - dice[there].mean()


def class_weights(masks: npt.NDArray[np.uint8], classes: int, choice: str) -> torch.Tensor | None:
    """Return weights of the classes by the pixels of the training masks, with a mean of one over the classes.

    Args:
        masks: class indices (n, S, S).
        classes: number of them.
        choice: none, balanced, or auto: balanced if the largest class is more than 1.5 times the smallest.

    Returns:
        One over the root of each class's share: the Dice loss balances the classes already, and full inverse shares
        would draw thin classes too wide. None for equal weights.
    """
    pixels = np.bincount(masks.ravel(), minlength=256)[:classes].astype(np.float64)
    there = pixels[pixels > 0]
    if choice == "none" or not len(there) or (choice == "auto" and there.max() <= 1.5 * there.min()):
        return None
    weights = 1 / np.sqrt(np.maximum(pixels, 1.0))
    weights[pixels == 0] = 0.0
    return torch.tensor(weights * (pixels > 0).sum() / weights.sum(), dtype=torch.float32)
