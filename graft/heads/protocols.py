"""What every kind of head has in common: what it is fitted to, fits along a path of penalties, what comes of them."""

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
    """Images that a head is fitted to, by their features."""

    features: npt.NDArray[np.floating] | Rows
    """(n, d)"""
    targets: Targets
    """Of the images, as the task gives them."""
    task: Task
    """What is learnt; some of its labels may be absent here."""
    sample_weight: Floats | None = None
    """(n,), of mean one; None for all equal."""
    widths: Sequence[int] | None = None
    """Number of features of each tap, where several are concatenated; None for one."""


@dataclass(frozen=True, kw_only=True)
class Fitted(ABC):
    """A classifier of raw features, fitted to some images."""

    kind: ClassVar[Kind]
    """Which kind of head computes it."""
    mean: Floats
    scale: Floats
    """(features,): the fit was in terms of `(x - mean) / scale`."""

    @abstractmethod
    def logits(self, features: npt.NDArray[np.floating]) -> Floats:
        """Return (n, classes) for (n, features)."""

    @abstractmethod
    def layers(self) -> dict[str, Floats]:
        """Return the tensors of the layers behind the standardisation, by their names in `classifier.Head`."""

    def tensors(self) -> dict[str, Floats]:
        """Return the tensors of the `classifier.Head` that computes the same, by their names there."""
        return {"mean": self.mean, "scale": self.scale, **self.layers()}


class Fit(Protocol):
    """Fits one kind of head, once for every penalty."""

    def __call__(self, images: TrainingSet, penalties: Sequence[float]) -> Iterator[Fitted]:
        """Yield one classifier per penalty, strongest first, each started from the one before."""
