"""The interface of every kind of head: its training set, the fit along a path of penalties, the fitted head."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from graft.core.row_blocks import Rows
from graft.tasks.task import Targets, Task

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Kind = Literal["linear", "mlp", "cosine"]


@dataclass(frozen=True)
class TrainingSet:
    """The features and targets that a head is fitted to."""

    features: npt.NDArray[np.floating] | Rows
    """(n, d)"""
    targets: Targets
    """Of the images, as the task returns them."""
    task: Task
    """What is learnt; some of its labels may be absent here."""
    sample_weight: Floats | None = None
    """(n,), with a mean of one; None for all equal."""
    widths: Sequence[int] | None = None
    """Number of features of each tap, where several are concatenated; None for one."""


@dataclass(frozen=True, kw_only=True)
class FittedHead(ABC):
    """A fitted classifier of raw features."""

    kind: ClassVar[Kind]
    """The kind of head."""
    mean: Floats
    scale: Floats
    """(features,): the fit was on `(x - mean) / scale`."""

    @abstractmethod
    def logits(self, features: npt.NDArray[np.floating]) -> Floats:
        """Return (n, classes) for (n, features)."""

    @abstractmethod
    def layers(self) -> dict[str, Floats]:
        """Return the tensors of the layers after the standardisation, by their names in `classifier.Head`."""

    def tensors(self) -> dict[str, Floats]:
        """Return the tensors of a `classifier.Head` that computes the same, by their names there."""
        return {"mean": self.mean, "scale": self.scale, **self.layers()}


class Fit(Protocol):
    """Fits one kind of head, once for every penalty."""

    def __call__(self, images: TrainingSet, penalties: Sequence[float]) -> Iterator[FittedHead]:
        """Yield one classifier per penalty, strongest first, each started from the previous one."""
