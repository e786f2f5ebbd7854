"""Which columns of a table of features one of several heads reads. NumPy alone."""

import numpy as np
import numpy.typing as npt

Columns = tuple[tuple[int, int], ...]
"""Ranges of columns (start, end) that a head reads, in its order."""


def columns_of(features: npt.NDArray[np.float32], columns: Columns) -> npt.NDArray[np.float32]:
    """Return the features (n, d) that one head reads, of all features (n, D)."""
    if len(columns) == 1:
        return features[:, columns[0][0] : columns[0][1]]
    return np.concatenate([features[:, start:end] for start, end in columns], axis=1)
