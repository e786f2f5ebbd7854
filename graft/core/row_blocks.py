"""Features a block of rows at a time: what is computed over all images never holds all of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Array32 = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
F = TypeVar("F", bound=np.floating)

BLOCK_BYTES = 8 * 2**20
"""Of a block at most: large enough for matrix products to be fast, small enough for many threads."""


class Rows(Protocol):
    """A matrix (n, d) that is read in blocks, from the first row to the last."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""

    def blocks(self) -> Iterator[tuple[slice, Array32]]:
        """Yield where each block stands and its rows, float32 (k, d)."""


@dataclass(frozen=True)
class Held:
    """Arrays in memory, one below the other; blocks are views of them."""

    parts: tuple[Array32, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        return sum(len(part) for part in self.parts), self.parts[0].shape[1]

    def blocks(self) -> Iterator[tuple[slice, Array32]]:
        """Yield where each block stands and its rows, float32 (k, d)."""
        done = 0
        for part in self.parts:
            for within in slices(len(part), part.shape[1]):
                yield slice(done + within.start, done + within.stop), part[within]
            done += len(part)


@dataclass(frozen=True)
class Mapped:
    """Some rows of memory-mapped arrays, side by side; a block is copied when it is its turn."""

    arrays: tuple[Array32, ...]
    rows: Indices

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        return len(self.rows), sum(array.shape[1] for array in self.arrays)

    def blocks(self) -> Iterator[tuple[slice, Array32]]:
        """Yield where each block stands and its rows, float32 (k, d)."""
        for where in slices(*self.shape):
            yield where, self.read(where)

    def read(self, where: slice | Indices = slice(None)) -> Array32:
        """Return all or some of the rows, float32 (k, d)."""
        chosen = self.rows[where]
        # asarray: a part of a memory map calls itself one although it is in memory.
        read = [np.asarray(array[chosen]) for array in self.arrays]
        return read[0] if len(read) == 1 else np.concatenate(read, axis=1)


def slices(n: int, width: int, cell_bytes: int = 4) -> Iterator[slice]:
    """Yield the slices that cut `n` rows of `width` cells into blocks."""
    step = max(1, BLOCK_BYTES // (cell_bytes * max(1, width)))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def by_block(compute: Callable[[Array32], npt.NDArray[Any]], rows: Rows, into: npt.NDArray[F]) -> npt.NDArray[F]:
    """Fill an array whose first axis is that of `rows` with what `compute` makes of each block, and return it."""
    for where, block in rows.blocks():
        into[where] = compute(block)
    return into


def moments(rows: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean and standard deviation of every column, (d,) each."""
    n, width = rows.shape
    # Sums of distances to the first block's mean, not to zero, so that squares do not drown what they differ by.
    origin: npt.NDArray[np.float64] | None = None
    first, second = np.zeros(width), np.zeros(width)
    for _, block in rows.blocks():
        if origin is None:
            origin = block.mean(axis=0, dtype=np.float64)
        apart = block - origin
        first += apart.sum(axis=0)
        second += np.einsum("ij,ij->j", apart, apart)
    if origin is None:
        raise ValueError("no rows")
    shift = first / n
    return origin + shift, np.sqrt(np.maximum(second / n - shift**2, 0.0))


def read(rows: Rows, some: Indices | None = None) -> Array32:
    """Return all rows, or those at `some` ascending positions, float32 (k, d)."""
    if some is None:
        return np.concatenate([block for _, block in rows.blocks()])
    parts = []
    for where, block in rows.blocks():
        first, last = np.searchsorted(some, (where.start, where.stop))
        parts.append(block[some[first:last] - where.start])
    return np.concatenate(parts)
