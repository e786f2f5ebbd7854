"""Class statistics: number and mean of every class and the scatter they share, which stand for all images learnt.

They are sums in float64 about the class means, merged and taken apart exactly (Chan, Golub and LeVeque 1983). So the
order in which images arrive changes no more than the last digits, and an image can be taken out again. Linear
discriminants and ridge regression need nothing else of the images (see `closed_form`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graft.core.errors import ModelError
from graft.core.row_blocks import ArrayRows, Rows
from graft.heads.protocols import Floats, Ints

ROUNDING = 1e-9
"""A variance that falls below zero by less than this share of what it was is a rounding error."""


@dataclass(frozen=True)
class ClassStatistics:
    """Statistics of features (n, D) of images of C classes."""

    labels: tuple[str, ...]
    """Names of the classes, sorted; each has at least one image."""
    counts: Ints
    """Images of each class, int64 (C,)."""
    means: Floats
    """Of each class, float64 (C, D)."""
    scatter: Floats
    """Sum of the outer products of the deviations from the class means, float64 (D, D)."""

    @classmethod
    def of(cls, features: npt.NDArray[np.floating] | Rows, names: Sequence[str]) -> "ClassStatistics":
        """Return the statistics of these images.

        Args:
            features: (n, D); read in blocks.
            names: class of each image.
        """
        rows = ArrayRows((features,)) if isinstance(features, np.ndarray) else features
        width = rows.shape[1]
        labels, codes = np.unique(np.asarray(names, dtype=str), return_inverse=True)
        counts = np.bincount(codes, minlength=len(labels)).astype(np.int64)
        sums, scatter = np.zeros((len(labels), width)), np.zeros((width, width))
        for where, block in rows.blocks():
            np.add.at(sums, codes[where], block.astype(np.float64))
        means = sums / counts[:, None]
        for where, block in rows.blocks():
            centred = block - means[codes[where]]
            scatter += centred.T @ centred
        return cls(tuple(map(str, labels)), counts, means, scatter)

    @property
    def images(self) -> int:
        """Number of images."""
        return int(self.counts.sum())

    @property
    def width(self) -> int:
        """Number of features D."""
        return int(self.means.shape[1])

    @property
    def mean(self) -> Floats:
        """Mean of all images, (D,)."""
        return np.asarray(self.counts @ self.means / self.images, dtype=np.float64)

    @property
    def between(self) -> Floats:
        """Deviations of the class means from the overall mean, (C, D)."""
        return np.asarray(self.means - self.mean, dtype=np.float64)

    @property
    def total_scatter(self) -> Floats:
        """Sum of the outer products of the deviations from the overall mean, (D, D)."""
        return np.asarray(self.scatter + (self.between.T * self.counts) @ self.between, dtype=np.float64)

    def merged(self, other: "ClassStatistics") -> "ClassStatistics":
        """Return the statistics of both sets of images together."""
        labels = tuple(sorted({*self.labels, *other.labels}))
        (n, ours), (m, theirs) = self._aligned(labels), other._aligned(labels)
        counts = n + m
        apart = theirs - ours
        means = ours + apart * (m / counts)[:, None]
        pulled = apart * np.sqrt(n * m / counts)[:, None]
        return ClassStatistics(labels, counts, means, self.scatter + other.scatter + pulled.T @ pulled)

    def without(self, other: "ClassStatistics") -> "ClassStatistics":
        """Return the statistics after these images are taken out again; a class without images left is gone.

        Raises:
            ModelError: if they cannot have been among the images.
        """
        (n, ours), (m, theirs) = self._aligned(self.labels), other._aligned(self.labels)
        if not set(other.labels) <= set(self.labels) or (m > n).any():
            raise ModelError("the images to take out of the memory were never all in it")
        counts = n - m
        left = np.maximum(counts, 1)
        # A class that is taken out as a whole leaves nothing: its mean is that of the images taken.
        apart = np.where((counts > 0)[:, None], theirs - ours, 0.0)
        means = ours - apart * (m / left)[:, None]
        pulled = apart * np.sqrt(n * m / left)[:, None]
        scatter = self.scatter - other.scatter - pulled.T @ pulled
        variances, before = np.diagonal(scatter), np.diagonal(self.scatter)
        if (variances < -ROUNDING * np.maximum(before, 1e-30)).any():
            raise ModelError("the features to take out of the memory are not those that were learnt")
        kept = counts > 0
        names = tuple(label for label, keep in zip(self.labels, kept, strict=True) if keep)
        return ClassStatistics(names, counts[kept], means[kept], scatter)

    def _aligned(self, labels: Sequence[str]) -> tuple[Ints, Floats]:
        """Return counts (k,) and means (k, D) of the given classes; zeros for a class without images."""
        place = {label: at for at, label in enumerate(labels)}
        rows = [place[label] for label in self.labels if label in place]
        mine = [at for at, label in enumerate(self.labels) if label in place]
        counts, means = np.zeros(len(labels), np.int64), np.zeros((len(labels), self.width))
        counts[rows], means[rows] = self.counts[mine], self.means[mine]
        return counts, means
