"""The loss that training minimises and the measures that judge the result, both taken from the task.

The rest of this wing neither computes a loss nor counts right answers.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from graft.heads.depth_selection import IMBALANCE
from graft.heads.protocols import Floats
from graft.tasks.task import Bools, Targets, Task

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TrainingLoss:
    """The loss that training minimises."""

    task: Task
    label_weights: torch.Tensor | None = None
    """float32 (C,), on the device of the logits; None: all labels have the same weight."""
    label_smoothing: float = 0.0
    logit_shift: torch.Tensor | None = None
    """float32 (C,), taken off the logits: what corrected the head for the weights; None: nothing."""

    def mean(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean over images, a scalar, of logits (b, C) and their targets."""
        logits = self._uncorrected(logits)
        return self.task.loss(logits, targets, label_weights=self.label_weights, label_smoothing=self.label_smoothing)

    def part_of_mean(self, logits: torch.Tensor, targets: torch.Tensor, all_targets: Targets) -> torch.Tensor:
        """Return the contribution of a part of a set to the mean over the set: all contributions add up to the mean.

        Args:
            logits: (b, C).
            targets: of the same images.
            all_targets: of the entire set.
        """
        total = self.task.loss(
            self._uncorrected(logits),
            targets,
            label_weights=self.label_weights,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        if self.label_weights is None:
            return total / len(all_targets)
        return total / float(self.task.image_weights(all_targets, self.label_weights.cpu().numpy()).sum())

    def _uncorrected(self, logits: torch.Tensor) -> torch.Tensor:
        return logits if self.logit_shift is None else logits - self.logit_shift


def label_weights(task: Task, targets: Targets, weighted: bool | None = None) -> Floats | None:
    """Return the label weights (C,) of the training loss; None for all equal.

    Args:
        task: what is learnt.
        targets: of the training images.
        weighted: whether the head was fitted with weights; None: where the training images are imbalanced.
    """
    if weighted is None:
        weighted = task.imbalance(targets) > IMBALANCE
    return task.label_weights(targets) if weighted else None


def mean_loss(task: Task, logits: Logits, targets: Targets) -> float:
    """Return the mean loss of logits (n, C)."""
    return float(task.losses(logits, targets).mean())


def correct(task: Task, logits: Logits, targets: Targets) -> Bools:
    """Return whether the answer for every image is right, (n,), from logits (n, C)."""
    return task.correct(task.probabilities(logits), targets)
