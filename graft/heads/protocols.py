"""What every kind of head has in common: a fit along a path of penalties, and what comes of it."""

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from graft.core.row_blocks import Rows

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Kind = Literal["linear", "mlp", "cosine"]


class Fitted(Protocol):
    """A classifier of raw features, fitted to some images."""

    @property
    def kind(self) -> Kind:
        """Which kind of head computes it."""

    def logits(self, features: npt.NDArray[np.floating]) -> Floats:
        """Return (n, classes) for (n, features)."""

    def tensors(self) -> dict[str, Floats]:
        """Return the tensors of the `classifier.Head` that computes the same, by their names there."""


class Fit(Protocol):
    """Fits one kind of head, once for every penalty."""

    def __call__(
        self,
        features: npt.NDArray[np.floating] | Rows,
        targets: Ints,
        n_classes: int,
        penalties: Sequence[float],
        sample_weight: Floats | None = None,
        widths: Sequence[int] | None = None,
    ) -> Iterator[Fitted]:
        """Yield one classifier per penalty, strongest first; see `linear_probe.fit_path`."""
