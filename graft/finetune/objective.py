"""What training minimises and what its results are judged by: cross-entropy over one column of classes.

The rest of this wing neither computes a loss nor counts right answers.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from graft.heads.depth_selection import IMBALANCE
from graft.heads.linear_probe import balanced_weights
from graft.heads.protocols import Floats, Ints

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TrainingLoss:
    """The loss that training minimises."""

    class_weight: torch.Tensor | None = None
    """float32 (C,), on the device of the logits; None: all classes count the same."""
    label_smoothing: float = 0.0

    def mean(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean over images, a scalar, of logits (b, C) and classes (b,)."""
        return F.cross_entropy(logits, targets, weight=self.class_weight, label_smoothing=self.label_smoothing)

    def part_of_mean(self, logits: torch.Tensor, targets: torch.Tensor, all_targets: torch.Tensor) -> torch.Tensor:
        """Return what some images contribute to the mean over a larger set: the parts of all its images add up to it.

        Args:
            logits: (b, C).
            targets: classes (b,) of the same images.
            all_targets: classes (n,) of the whole set.
        """
        total = F.cross_entropy(
            logits, targets, weight=self.class_weight, label_smoothing=self.label_smoothing, reduction="sum"
        )
        return total / (len(all_targets) if self.class_weight is None else self.class_weight[all_targets].sum())


def class_weights(targets: Ints, n_classes: int) -> Floats | None:
    """Return the weights (C,) of classes for the training loss; None if the data are about balanced.

    Args:
        targets: classes (n,) of the training images.
        n_classes: of the data, present in training or not.
    """
    counts = np.bincount(targets)
    imbalanced = counts.max() > IMBALANCE * counts[counts > 0].min()
    return balanced_weights(targets, n_classes) if imbalanced else None


def losses(logits: Logits, targets: Ints) -> Floats:
    """Return the cross-entropy of every image, (n,), of logits (n, C)."""
    scores = torch.from_numpy(logits).double()
    found: Floats = F.cross_entropy(scores, torch.from_numpy(targets), reduction="none").numpy()
    return found


def mean_loss(logits: Logits, targets: Ints) -> float:
    """Return the mean cross-entropy of logits (n, C)."""
    return float(losses(logits, targets).mean())


def correct(logits: Logits, targets: Ints) -> npt.NDArray[np.bool_]:
    """Return whether the most probable class of every image is its own, (n,), from logits (n, C)."""
    return np.asarray(logits.argmax(1) == targets)
