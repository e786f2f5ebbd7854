"""The images to choose from: what the model says of each in memory, its features on disk."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from graft.core.row_blocks import Array32, Indices

Half = npt.NDArray[np.float16]
FARTHEST = 5.0
"""Standard deviations at which a feature is cut off, so that an outlier does not decide a direction alone."""


@dataclass(frozen=True)
class Pool:
    """Images without labels; all arrays have one entry for each."""

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    """Of the model."""
    answer: Indices
    """Index of the most probable label."""
    second: Indices
    """Of the next one."""
    confidence: Array32
    """Probability of the most probable label."""
    margin: Array32
    """By how much it is more probable than the next one."""
    ood: Array32 | None
    """Out-of-distribution score, above 1 for images unlike the training images; None if the model has none."""
    features: tuple[Half, ...]
    """Standardised features (k, D), part by part, memory-mapped."""

    @classmethod
    def of(cls, parts: Iterable[tuple[pa.Table, Half]], labels: Sequence[str], prefix: str) -> "Pool":
        """Return the images of predictions that have an answer.

        Args:
            parts: predictions with their images' features; rows with an error have none.
            labels: of the model, two or more.
            prefix: of the columns with their probabilities.
        """
        paths: list[str] = []
        ranked, probabilities, scores, features = [], [], [], []
        for table, found in parts:
            columns = [table[f"{prefix}{label}"].to_numpy() for label in labels]
            values = np.stack(columns, axis=1).astype(np.float32).reshape(-1, len(labels))
            best = np.argsort(-values, axis=1, kind="stable")[:, :2]
            ranked.append(best)
            probabilities.append(np.take_along_axis(values, best, axis=1))
            paths += table["path"].to_pylist()
            features.append(found)
            if "ood" in table.column_names:
                scores.append(table["ood"].to_numpy().astype(np.float32))
        order = np.concatenate([np.zeros((0, 2), np.int64), *ranked])
        top = np.concatenate([np.zeros((0, 2), np.float32), *probabilities])
        return cls(
            tuple(paths),
            tuple(labels),
            order[:, 0],
            order[:, 1],
            top[:, 0],
            top[:, 0] - top[:, 1],
            np.concatenate(scores) if scores else None,
            tuple(features),
        )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def read(self, rows: Indices) -> Array32:
        """Return the directions of the features of some images, float32 (k, D): standardised among them, of length 1.

        The head's scale comes from the images it was fitted to; where these are few, a feature that hardly varies among
        them would decide alone.
        """
        starts = np.cumsum([0, *(len(part) for part in self.features)])
        found = np.empty((len(rows), self.features[0].shape[1]), np.float32)
        of = np.searchsorted(starts, rows, side="right") - 1
        for part in np.unique(of):
            here = of == part
            found[here] = self.features[part][rows[here] - starts[part]]
        found -= found.mean(axis=0)
        found /= np.maximum(found.std(axis=0), 1e-6)
        np.clip(found, -FARTHEST, FARTHEST, out=found)
        lengths: npt.NDArray[Any] = np.linalg.norm(found, axis=1, keepdims=True)
        return np.asarray(found / np.maximum(lengths, 1e-12), dtype=np.float32)
