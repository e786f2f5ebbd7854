"""The loss that training minimises and the measures that judge the result, both taken from the task.

Nothing else in `training` and `finetune` computes a loss or counts correct answers.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar

from graft.heads.head_inputs import IMBALANCE
from graft.heads.protocols import Floats
from graft.tasks.task import Bools, Targets, Task

Logits = npt.NDArray[np.float32]
LOWEST, HIGHEST = 0.05, 20.0
"""Of temperatures."""
PARTS = 5
"""Parts of the images that are calibrated in turn by the others."""


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


def best_temperature(task: Task, logits: Logits, targets: Targets) -> float:
    """Return the temperature at which logits (n, C) have the lowest mean loss on these very images.

    A model in use gets a more careful one (`Task.fit_temperature`). To compare two models, both need their optimum:
    only there does the loss not depend on the temperature, and the error of their difference not on its fit.
    """
    scaled = np.asarray(logits, dtype=np.float64)

    def loss(log_temperature: float) -> float:
        return float(task.losses(scaled / np.exp(log_temperature), targets).mean())

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded", options={"xatol": 1e-3})
    return float(np.exp(found.x))


def cross_calibrated(task: Task, logits: Logits, targets: Targets, groups: npt.NDArray[np.object_]) -> Logits:
    """Return logits (n, C) divided by temperatures that were fitted on other images: whole groups, a fifth at a time.

    The groups are shared out in the order of their hashes, whatever the order of the images.

    Args:
        task: the task.
        logits: of images that the model has not seen, (n, C).
        targets: of these images.
        groups: name of each image's group, (n,).
    """
    names = sorted(set(groups), key=lambda name: hashlib.sha256(str(name).encode()).digest())
    place = {name: number % PARTS for number, name in enumerate(names)}
    parts = np.array([place[name] for name in groups], dtype=np.int64)
    found = np.array(logits, dtype=np.float32)
    for part in range(min(PARTS, len(names))):
        mine = parts == part
        if not mine.all():
            found[mine] /= task.fit_temperature(logits[~mine], targets[~mine])
    return found


def mean_loss(task: Task, logits: Logits, targets: Targets) -> float:
    """Return the mean loss of logits (n, C)."""
    return float(task.losses(logits, targets).mean())


def correct(task: Task, logits: Logits, targets: Targets) -> Bools:
    """Return whether the answer for every image is right, (n,), from logits (n, C)."""
    return task.correct(task.probabilities(logits), targets)
