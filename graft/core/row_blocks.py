"""Features in blocks of rows: computations over all images never hold all of them in memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Array32 = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
F = TypeVar("F", bound=np.floating)

BLOCK_BYTES = 8 * 2**20
"""Maximum size of a block: large enough for fast matrix products, small enough for many threads."""


class Rows(Protocol):
    """A matrix (n, d) that is read in blocks, from the first row to the last."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""

    def blocks(self) -> Iterator[tuple[slice, Array32]]:
        """Yield the position of each block and its rows, float32 (k, d)."""


@dataclass(frozen=True)
class ArrayRows:
    """Arrays in memory, one below the other; blocks are views of them."""

    parts: tuple[Array32, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return sum(len(part) for part in self.parts), self.parts[0].shape[1]

    def blocks(self) -> Iterator[tuple[slice, Array32]]:
        """Yield the position of each block and its rows, float32 (k, d)."""
        done = 0
        for part in self.parts:
            for within in block_slices(len(part), part.shape[1]):
                yield slice(done + within.start, done + within.stop), part[within]
            done += len(part)


@dataclass(frozen=True)
class MappedRows:
    """Selected rows of memory-mapped arrays, side by side; a block is copied when it is read."""

    arrays: tuple[Array32, ...]
    rows: Indices

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return len(self.rows), sum(array.shape[1] for array in self.arrays)

    def blocks(self) -> Iterator[tuple[slice, Array32]]:
        """Yield the position of each block and its rows, float32 (k, d)."""
        for where in block_slices(*self.shape):
            yield where, self.read(where)

    def read(self, where: slice | Indices = slice(None)) -> Array32:
        """Return all rows, or those that `where` selects, float32 (k, d)."""
        chosen = self.rows[where]
        # asarray: a fancy-indexed part of a memmap still has that type although it is in memory.
        parts = [np.asarray(array[chosen]) for array in self.arrays]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def block_slices(n: int, width: int, cell_bytes: int = 4) -> Iterator[slice]:
    """Yield slices that cut `n` rows of `width` cells into blocks."""
    step = max(1, BLOCK_BYTES // (cell_bytes * max(1, width)))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def fill_by_block(compute: Callable[[Array32], npt.NDArray[Any]], rows: Rows, into: npt.NDArray[F]) -> npt.NDArray[F]:
    """Apply `compute` to each block of `rows`, write the results to `into` (same first axis), and return it."""
    for where, block in rows.blocks():
        into[where] = compute(block)
    return into


def mean_and_std(rows: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the mean and standard deviation of every column, (d,) each."""
    n, width = rows.shape
    # Sums of differences from the first block's mean, not from zero: sums of large squares would lose precision.
    origin: npt.NDArray[np.float64] | None = None
    first, second = np.zeros(width), np.zeros(width)
    for _, block in rows.blocks():
        if origin is None:
            origin = block.mean(axis=0, dtype=np.float64)
        centred = block - origin
        first += centred.sum(axis=0)
        second += np.einsum("ij,ij->j", centred, centred)
    if origin is None:
        raise ValueError("no rows")
    shift = first / n
    return origin + shift, np.sqrt(np.maximum(second / n - shift**2, 0.0))


def read_rows(rows: Rows, positions: Indices | None = None) -> Array32:
    """Return all rows, or those at `positions` (ascending), float32 (k, d)."""
    if positions is None:
        return np.concatenate([block for _, block in rows.blocks()])
    parts = []
    for where, block in rows.blocks():
        first, last = np.searchsorted(positions, (where.start, where.stop))
        parts.append(block[positions[first:last] - where.start])
    return np.concatenate(parts)
