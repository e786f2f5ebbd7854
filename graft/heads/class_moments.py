"""Class moments: number, mean and variance of every class's features, all that adaptation needs of the training images.

They are accumulated in float64, block by block, and merged exactly (Chan, Golub and LeVeque 1983), so that the order of
the images changes no more than the last digits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from graft.core.atomic import replacing
from graft.core.errors import ModelError
from graft.core.row_blocks import ArrayRows, Rows
from graft.core.tensors import read_arrays
from graft.heads.protocols import Floats, Ints

MOMENTS_FILE = "moments.safetensors"
ARRAYS = ("counts", "means", "squares")


@dataclass(frozen=True)
class ClassMoments:
    """Moments of features (n, D) of C classes; every image counts the same."""

    counts: Ints
    """Images of each class, int64 (C,)."""
    means: Floats
    """Of each class, float64 (C, D); zero for a class without images."""
    squares: Floats
    """Sum of the squared deviations from the class mean, float64 (C, D)."""

    @classmethod
    def empty(cls, classes: int, features: int) -> "ClassMoments":
        """Return the moments of no image."""
        return cls(np.zeros(classes, np.int64), np.zeros((classes, features)), np.zeros((classes, features)))

    @classmethod
    def of(cls, features: npt.NDArray[np.floating] | Rows, targets: Ints, classes: int) -> "ClassMoments":
        """Return the moments of these images.

        Args:
            features: (n, D); read in blocks.
            targets: class of each image, (n,); images of class -1 have none and do not count.
            classes: number of classes C.
        """
        rows = ArrayRows((features,)) if isinstance(features, np.ndarray) else features
        found = cls.empty(classes, rows.shape[1])
        for where, block in rows.blocks():
            found = found.merged(cls._of_block(block.astype(np.float64), targets[where], classes))
        return found

    @classmethod
    def _of_block(cls, block: Floats, targets: Ints, classes: int) -> "ClassMoments":
        order = np.argsort(targets, kind="stable")
        order = order[targets[order] >= 0]
        block, targets = block[order], targets[order]
        present, starts, counts = np.unique(targets, return_index=True, return_counts=True)
        found = cls.empty(classes, block.shape[1])
        if len(present):
            found.counts[present] = counts
            found.means[present] = np.add.reduceat(block, starts, axis=0) / counts[:, None]
            found.squares[present] = np.add.reduceat((block - found.means[targets]) ** 2, starts, axis=0)
        return found

    def merged(self, other: "ClassMoments") -> "ClassMoments":
        """Return the moments of both sets of images together."""
        counts = self.counts + other.counts
        share = (other.counts / np.maximum(counts, 1))[:, None]
        apart = other.means - self.means
        between = apart**2 * (self.counts[:, None] * share)
        return ClassMoments(counts, self.means + apart * share, self.squares + other.squares + between)

    def without(self, other: "ClassMoments") -> "ClassMoments":
        """Return the moments after images that are among these are taken out again.

        Raises:
            ModelError: if they cannot have been among them.
        """
        counts = self.counts - other.counts
        if counts.min(initial=0) < 0:
            raise ModelError("the images to take out of the class moments were never all in them")
        left = np.maximum(counts, 1)[:, None]
        means = np.where(counts[:, None] > 0, self.means + (self.means - other.means) * other.counts[:, None] / left, 0)
        between = (other.means - means) ** 2 * (other.counts * counts / np.maximum(self.counts, 1))[:, None]
        squares = np.maximum(self.squares - other.squares - between, 0.0)  # below zero by rounding alone
        return ClassMoments(counts, means, np.where(counts[:, None] > 0, squares, 0.0))

    @property
    def variances(self) -> Floats:
        """Of each class's features, over its number of images, (C, D)."""
        return np.asarray(self.squares / np.maximum(self.counts, 1)[:, None], dtype=np.float64)

    @property
    def shares(self) -> Floats:
        """Of the classes among the images, (C,)."""
        return np.asarray(self.counts / max(1, int(self.counts.sum())), dtype=np.float64)

    def mixed(self, shares: Floats | None = None) -> tuple[Floats, Floats]:
        """Return mean and variance (D,) of the features, if the classes had these shares (C,) of the images.

        Args:
            shares: of the classes; those without images are left out. None: their own.
        """
        weight = np.where(self.counts > 0, self.shares if shares is None else shares, 0.0)
        weight = weight / weight.sum()
        mean = weight @ self.means
        return mean, np.asarray(weight @ (self.variances + (self.means - mean) ** 2), dtype=np.float64)

    def save(self, folder: Path) -> None:
        """Write `moments.safetensors` into a folder, which exists."""
        tensors: dict[str, npt.NDArray[Any]] = {name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}
        with replacing(folder / MOMENTS_FILE) as temporary:
            temporary.write_bytes(safetensors.numpy.save(tensors))

    @classmethod
    def load(cls, folder: Path, shape: Sequence[int]) -> "ClassMoments | None":
        """Read what `save` wrote; None if there is no such file, as in bundles of earlier versions.

        Args:
            folder: of the bundle.
            shape: (C, D), what the bundle's head reads.

        Raises:
            ModelError: if the file cannot be read, is of another head, or contains impossible numbers.
        """
        file = folder / MOMENTS_FILE
        if not file.is_file():
            return None
        tensors = read_arrays(file, *ARRAYS)
        counts, means, squares = (tensors[name] for name in ARRAYS)
        if (counts.shape, means.shape, squares.shape) != ((shape[0],), tuple(shape), tuple(shape)):
            raise ModelError(f"{file}: of {means.shape}, expected {tuple(shape)} (classes, features); train again")
        if counts.min() < 0 or squares.min() < 0 or not (np.isfinite(means).all() and np.isfinite(squares).all()):
            raise ModelError(f"{file}: negative or not finite numbers; train the model again")
        return cls(counts.astype(np.int64), means.astype(np.float64), squares.astype(np.float64))
