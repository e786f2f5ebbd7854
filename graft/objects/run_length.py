"""Run-length codes of masks, as COCO writes them: column by column, the lengths of runs of zeros and ones in turn.

All is NumPy; codes, areas, boxes, overlaps and drawn polygons equal those of pycocotools bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
BITS, MORE, SIGN, FIRST = 5, 0x20, 0x10, 48
"""A character holds five bits of a number, the last of which is its sign, and one bit that says that more follow."""
UPSAMPLED = 5.0
"""Polygons are drawn on a grid that is this many times finer than the pixels."""


@dataclass(frozen=True)
class RunLength:
    """The mask of one object."""

    height: int
    width: int
    counts: str
    """COCO's compressed code."""

    @cached_property
    def _runs(self) -> Ints:
        return decode_counts(self.counts)

    @cached_property
    def spans(self) -> tuple[Ints, Ints]:
        """Where runs of ones begin and end (exclusive), counted column by column."""
        bounds = np.cumsum(self._runs)
        begins, ends = bounds[0::2], bounds[1::2]
        return begins[: len(ends)], ends

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(self._runs[1::2].sum())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of the smallest box around the mask; zeros if it is empty."""
        begins, ends = self.spans
        there = ends > begins
        begins, last = begins[there], ends[there] - 1
        if not len(begins):
            return 0, 0, 0, 0
        left, right = int(begins.min()) // self.height, int(last.max()) // self.height
        if (begins // self.height < last // self.height).any():
            return left, 0, right - left + 1, self.height
        top, bottom = int((begins % self.height).min()), int((last % self.height).max())
        return left, top, right - left + 1, bottom - top + 1

    def mask(self) -> Bools:
        """Return the mask (height, width)."""
        runs = self._runs
        flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return flat.reshape(self.width, self.height).T

    def as_coco(self) -> dict[str, Any]:
        """Return the code as COCO's JSON has it."""
        return {"size": [self.height, self.width], "counts": self.counts}


def encode(mask: Bools, left: int = 0, width: int | None = None) -> RunLength:
    """Return the code of a mask (h, w), or of one that is empty outside of these columns.

    Args:
        mask: all rows of the columns from `left` on.
        left: place of its first column.
        width: of the whole mask; None: that of `mask`.
    """
    height, own = mask.shape
    whole = own if width is None else width
    flat = np.concatenate([[False], mask.T.ravel(), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + left * height
    bounds = np.concatenate([[0], changes, [height * whole]])
    runs = np.diff(bounds)
    if runs[-1] == 0 and len(runs) > 1:
        runs = runs[:-1]
    return RunLength(height, whole, encode_counts(runs))


def of_runs(runs: Sequence[int], height: int, width: int) -> RunLength:
    """Return the code of runs that are given as plain numbers.

    Raises:
        ValueError: if they are not the runs of a mask of this size.
    """
    lengths = np.asarray(runs, dtype=np.int64)
    _check(lengths, height, width)
    return RunLength(height, width, encode_counts(lengths))


def checked(code: RunLength) -> RunLength:
    """Return a code that somebody else wrote.

    Raises:
        ValueError: if its runs are not those of a mask of its size.
    """
    _check(code._runs, code.height, code.width)
    return code


def _check(lengths: Ints, height: int, width: int) -> None:
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(f"runs of {int(lengths.sum())} pixels for a mask of {height} x {width}")


def polygons(outlines: Sequence[Sequence[float]], height: int, width: int) -> RunLength:
    """Return the union of polygons, each a list x, y, x, y, ... in pixels."""
    union = np.zeros((height, width), dtype=np.bool_)
    for outline in outlines:
        union |= _polygon(np.asarray(outline, dtype=np.float64).reshape(-1, 2), height, width)
    return encode(union)


def overlaps(answers: Sequence[RunLength], truth: Sequence[RunLength], crowd: Sequence[bool]) -> Floats:
    """Return the intersection over union of masks of one photo (answers, truth).

    For a crowd it is the part of the answer that lies inside, as in COCO.
    """
    found = np.zeros((len(answers), len(truth)))
    if not answers or not truth:
        return found
    spans = [one.spans for one in answers]
    begins, ends = (np.concatenate([span[at] for span in spans]) for at in (0, 1))
    owner = np.repeat(np.arange(len(answers)), [len(span[0]) for span in spans])
    areas = np.array([one.area for one in answers], dtype=np.float64)
    for at, one in enumerate(truth):
        bounds, inside = _cumulative(one)
        shared = np.interp(ends, bounds, inside) - np.interp(begins, bounds, inside)
        both = np.bincount(owner, shared, len(answers))
        below = areas if crowd[at] else areas + one.area - both
        found[:, at] = np.divide(both, below, out=np.zeros_like(both), where=below > 0)
    return found


def decode_counts(counts: str) -> Ints:
    """Return the runs of a compressed code."""
    if not counts:
        return np.zeros(0, np.int64)
    codes = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - FIRST
    last = (codes & MORE) == 0
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    values = np.add.reduceat((codes & (MORE - 1)) << (BITS * place), starts)
    negative = (codes[ends] & SIGN) != 0
    values = values - np.where(negative, np.int64(1) << (BITS * (place[ends] + 1)), 0)
    # from the fourth on, a number is the difference to the one two before
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def encode_counts(runs: Ints) -> str:
    """Return the compressed code of runs."""
    values = runs.astype(np.int64).copy()
    values[3:] -= runs[1:-2]
    characters = []
    for value in values.tolist():
        more = True
        while more:
            part = value & (MORE - 1)
            value >>= BITS
            more = value != (-1 if part & SIGN else 0)
            characters.append(chr(part + (MORE if more else 0) + FIRST))
    return "".join(characters)


def _cumulative(one: RunLength) -> tuple[Floats, Floats]:
    """Return the bounds of all runs and the number of ones before each."""
    begins, ends = one.spans
    bounds = np.concatenate([[0], np.stack([begins, ends], axis=1).ravel(), [one.height * one.width]])
    inside = np.cumsum(ends - begins)
    before = np.concatenate([[0], inside[:-1]]) if len(inside) else inside
    total = inside[-1:] if len(inside) else [0]
    counted = np.concatenate([[0], np.stack([before, inside], axis=1).ravel(), total])
    return bounds.astype(np.float64), counted.astype(np.float64)


def _polygon(points: Floats, height: int, width: int) -> Bools:
    """Return a polygon as a mask (height, width), drawn exactly as pycocotools does."""
    corners = np.trunc(UPSAMPLED * points + 0.5).astype(np.int64)
    corners = np.concatenate([corners, corners[:1]])
    edges = [_edge(a, b) for a, b in zip(corners[:-1].tolist(), corners[1:].tolist(), strict=True)]
    x, y = np.concatenate(edges).T
    steps = x[1:] != x[:-1]
    column = np.where(x[1:] < x[:-1], x[1:], x[1:] - 1)[steps]
    row = np.minimum(y[1:], y[:-1])[steps]
    exact = (column + 0.5) / UPSAMPLED - 0.5
    used = (np.floor(exact) == exact) & (exact >= 0) & (exact <= width - 1)
    top = np.ceil(np.clip((row[used] + 0.5) / UPSAMPLED - 0.5, 0, height)).astype(np.int64)
    toggles = np.bincount(exact[used].astype(np.int64) * height + top, minlength=height * width + 1)
    inside: Bools = np.cumsum(toggles)[: height * width] % 2 == 1
    return inside.reshape(width, height).T


def _edge(a: Sequence[int], b: Sequence[int]) -> Ints:
    """Return the points of an edge (n, 2) on the fine grid, both ends included."""
    (x0, y0), (x1, y1) = a, b
    wide, high = abs(x1 - x0), abs(y1 - y0)
    flat = wide >= high
    flipped = x0 > x1 if flat else y0 > y1
    if flipped:
        x0, y0, x1, y1 = x1, y1, x0, y0
    length = max(wide, high)
    step = np.arange(length + 1)
    if flipped:
        step = step[::-1]
    slope = 0.0 if not length else ((y1 - y0) if flat else (x1 - x0)) / length
    if flat:
        return np.stack([step + x0, np.trunc(y0 + slope * step + 0.5).astype(np.int64)], axis=1)
    return np.stack([np.trunc(x0 + slope * step + 0.5).astype(np.int64), step + y0], axis=1)
