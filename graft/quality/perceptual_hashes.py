"""Perceptual hashes, and the pairs of them that are close.

A 64-bit hash of the low DCT frequencies (Zauner, "Implementation and benchmarking of perceptual image hash functions",
2010) finds candidates through multi-index hashing (Norouzi, Punjani and Fleet, "Fast search in Hamming space with
multi-index hashing", CVPR 2012), in time that grows well below the square of the number of images.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]
Signatures = npt.NDArray[np.uint8]

HASH_RADIUS = 7
"""Largest Hamming distance of a candidate: re-encoded and resized copies stay within 4, brightened ones within 8."""
_CHUNKS, _CHUNK_BITS = 4, 16
# Two hashes within 7 bits differ by at most one bit in one of four chunks (pigeonhole).
_PROBES = np.array([0, *(1 << bit for bit in range(_CHUNK_BITS))], dtype=np.int64)
_FREQUENCIES = 8
_BLOCK = 1 << 17
# Rows of one hash value that are compared with those of another: the others are connected to these anyway.
_MEMBERS = 16


def perceptual_hashes(signatures: Signatures) -> tuple[Hashes, Hashes]:
    """Return the hashes of pictures and of their mirror images, each uint64 of shape (n,)."""
    n = len(signatures)
    if n == 0:
        return np.empty(0, np.uint64), np.empty(0, np.uint64)
    blocks = [
        dctn(signatures[start : start + 4096].astype(np.float32), axes=(1, 2))[:, :_FREQUENCIES, :_FREQUENCIES]
        for start in range(0, n, 4096)
    ]
    coefficients = np.concatenate(blocks)
    # Mirroring a picture negates the coefficients of odd horizontal frequency.
    signs = np.where(np.arange(_FREQUENCIES) % 2, -1.0, 1.0).astype(np.float32)
    return _bits(coefficients), _bits(coefficients * signs)


def hash_pairs(
    hashes: Hashes, others: Hashes | None = None, radius: int = HASH_RADIUS
) -> Iterator[tuple[Indices, Indices]]:
    """Yield blocks of pairs of rows `i < j` whose hashes differ in at most `radius` (up to 7) bits.

    If many rows have the same hash, not every pair is yielded, but always enough to connect them. With `others`, a pair
    may be yielded twice, once for each one's pose.

    Args:
        hashes: uint64 of shape (n,).
        others: hashes of the same n pictures in another pose, to compare `hashes` with; None: `hashes`.
        radius: at most 7.
    """
    known = _Members.of(hashes)
    posed = known if others is None else _Members.of(others)
    if others is None:
        after_first = np.setdiff1d(np.arange(len(hashes)), known.starts, assume_unique=True)
        heads = known.order[np.repeat(known.starts, known.counts)]
        yield heads[after_first], known.order[after_first]
    for left, right in _close_keys(known.keys, posed.keys, radius):
        for one, other in _members_of_each(known, posed, left, right):
            different = one != other
            yield np.minimum(one, other)[different], np.maximum(one, other)[different]


@dataclass(frozen=True)
class _Members:
    """Rows by their hash."""

    keys: Hashes
    """Different hashes, ascending."""
    order: Indices
    """Rows in the order of their hashes."""
    starts: Indices
    """Position in `order` of each hash's first row."""
    counts: Indices

    @classmethod
    def of(cls, hashes: Hashes) -> "_Members":
        order = np.argsort(hashes, kind="stable")
        keys, starts, counts = np.unique(hashes[order], return_index=True, return_counts=True)
        return cls(keys, order, starts.astype(np.int64), counts.astype(np.int64))


def _bits(coefficients: npt.NDArray[np.float32]) -> Hashes:
    flat = coefficients.reshape(len(coefficients), -1)
    # The first coefficient is the mean brightness, which does not depend on what the picture shows.
    above = flat > np.median(flat[:, 1:], axis=1, keepdims=True)
    above[:, 0] = False
    return np.packbits(above, axis=1).view(np.uint64).reshape(-1)


def _close_keys(keys: Hashes, others: Hashes, radius: int) -> Iterator[tuple[Indices, Indices]]:
    """Yield blocks of pairs of positions in two arrays of unique hashes that differ in at most `radius` bits."""
    symmetric = others is keys
    for chunk in range(_CHUNKS):
        left, right = _chunk(keys, chunk), _chunk(others, chunk)
        order = np.argsort(right, kind="stable")
        starts = np.searchsorted(right[order], np.arange((1 << _CHUNK_BITS) + 1))
        for probe in _PROBES:
            low, high = starts[left ^ probe], starts[(left ^ probe) + 1]
            for rows, slots in _expanded(low, high):
                candidates = order[slots]
                apart = keys[rows] ^ others[candidates]
                close = np.bitwise_count(apart) <= radius
                if symmetric:
                    close &= rows < candidates
                rows, candidates, apart = rows[close], candidates[close], apart[close]
                # Do not yield again what an earlier chunk has found.
                new = np.ones(len(rows), dtype=np.bool_)
                for earlier in range(chunk):
                    new &= np.bitwise_count(_chunk(apart, earlier)) > 1
                if new.any():
                    yield rows[new], candidates[new]


def _chunk(hashes: Hashes, number: int) -> Indices:
    return ((hashes >> np.uint64(number * _CHUNK_BITS)) & np.uint64((1 << _CHUNK_BITS) - 1)).astype(np.int64)


def _members_of_each(
    known: _Members, posed: _Members, left: Indices, right: Indices
) -> Iterator[tuple[Indices, Indices]]:
    """Yield the pairs of rows for pairs of hashes, with only the first few rows of each hash."""
    ones, others = np.minimum(known.counts[left], _MEMBERS), np.minimum(posed.counts[right], _MEMBERS)
    for keys, within in _expanded(np.zeros(len(left), np.int64), ones * others):
        yield (
            known.order[known.starts[left[keys]] + within // others[keys]],
            posed.order[posed.starts[right[keys]] + within % others[keys]],
        )


def _expanded(low: Indices, high: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Yield (row, slot) for every slot of `low[row]:high[row]`, in blocks of bounded size."""
    counts = high - low
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _BLOCK, side="right")))
        block = counts[start:stop]
        rows = np.repeat(np.arange(start, stop), block)
        slots = np.arange(len(rows)) - np.repeat(np.cumsum(block) - block, block) + np.repeat(low[start:stop], block)
        yield rows, slots
        start = stop
