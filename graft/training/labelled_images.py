"""The input of the trainer: batches of a stage's inputs, with the targets of the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from graft.heads.protocols import Ints
from graft.tasks.task import Targets, Task

InputBatch = tuple[torch.Tensor, list[torch.Tensor]]
"""Activations (b, ...) after the last frozen group, and the pooled features [(b, d), ...] of the head's taps below."""


class InputSource(Protocol):
    """Where a stage's inputs come from: computed on demand or read from a cache, with the same values."""

    after: str | None
    """The frozen group whose activations are returned; None for the normalised images themselves."""

    def batch(self, positions: Ints, view: int) -> InputBatch:
        """Return the inputs of the images at `positions`, in one view."""


@dataclass(frozen=True)
class LabelledImages:
    """All images of a source, or a subset, with their targets."""

    source: InputSource
    task: Task
    """The task that defines the targets."""
    targets: Targets
    rows: Ints
    """Positions (n,) among all images of the source."""
    groups: npt.NDArray[np.object_]
    """Name of each image's group (n,): images of one group are not independent."""

    @classmethod
    def all(
        cls, source: InputSource, task: Task, targets: Targets, groups: npt.NDArray[np.object_] | None = None
    ) -> "LabelledImages":
        """Return all images of a source; without `groups`, each is its own group."""
        rows = np.arange(len(targets))
        return cls(source, task, targets, rows, rows.astype(np.str_).astype(np.object_) if groups is None else groups)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.targets)

    def subset(self, positions: Ints) -> "LabelledImages":
        """Return the images at `positions` among these."""
        return LabelledImages(
            self.source, self.task, self.targets[positions], self.rows[positions], self.groups[positions]
        )

    def batch(self, positions: Ints, view: int) -> InputBatch:
        """Return the inputs of the images at `positions` among these; see `InputSource.batch`."""
        return self.source.batch(self.rows[positions], view)


def to_device(device: torch.device, activation: torch.Tensor, below: Sequence[torch.Tensor]) -> InputBatch:
    """Return a batch of inputs on a device."""
    return activation.to(device), [taps.to(device) for taps in below]
