"""Near-duplicates by perceptual hash: the same picture re-encoded, resized, brightened, mirrored or trimmed.

A 64-bit hash of the low DCT frequencies (Zauner, "Implementation and benchmarking of perceptual image hash functions",
2010) finds candidates through multi-index hashing (Norouzi, Punjani and Fleet, "Fast search in Hamming space with
multi-index hashing", CVPR 2012), in time that grows well below the square of the number of images. A candidate counts
only if the 32 x 32 luminance signatures correlate: the hash alone calls many pairs of plain drawings equal.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]
Signatures = npt.NDArray[np.uint8]

HASH_RADIUS = 7
"""Largest Hamming distance of a candidate: re-encoded and resized copies stay within 4, brightened ones within 8."""
_CHUNKS, _CHUNK_BITS = 4, 16
# Two hashes within 7 bits agree in one of four chunks up to one bit (pigeonhole).
_PROBES = np.array([0, *(1 << bit for bit in range(_CHUNK_BITS))], dtype=np.int64)
_FREQUENCIES = 8
_BLOCK = 1 << 20
# Members of one hash value that are compared with those of another: the rest are tied to these anyway.
_MEMBERS = 16
# What is left, as left, top, right and bottom, where a copy lost 5 % of each side in all, or of each side.
_TRIMS = (
    *((0.025, 0.025, 0.975, 0.975), (0.05, 0.05, 0.95, 0.95), (0.0, 0.0, 0.95, 0.95), (0.05, 0.05, 1.0, 1.0)),
    *((0.05, 0.0, 1.0, 0.95), (0.0, 0.05, 0.95, 1.0)),
)
# Drawings and digits in which one shade fills more than this part resemble each other by chance.
_GROUND = 0.4
# Below this spread of luminance (0 to 255) a picture is a flat area, and resembles every other one.
_FLAT = 4.0


@dataclass(frozen=True, slots=True)
class NearPairs:
    """Pairs of rows that show the same picture, `first < second`, each array of shape (m,)."""

    first: Indices
    second: Indices
    similarity: npt.NDArray[np.float32]
    """Correlation of the luminance signatures, up to 1."""
    mirrored: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.first)


def near_pairs(signatures: Signatures, similarity: float, photo_similarity: float = 1.0) -> NearPairs:
    """Find near-duplicates among pictures of different content, mirrored and slightly trimmed ones included.

    Args:
        signatures: luminance, uint8 of shape (n, 32, 32).
        similarity: least correlation of two signatures that counts as the same picture.
        photo_similarity: the same for pictures without a flat ground, which chance makes less alike.

    Returns:
        The pairs, sorted.
    """
    rows = np.flatnonzero(signatures.std(axis=(1, 2)) >= _FLAT)
    chosen = signatures[rows]
    photo = on_no_ground(chosen)
    hashes, mirrored_hashes = perceptual_hashes(chosen)
    same, turned = hash_pairs(hashes), hash_pairs(hashes, mirrored_hashes)
    soft = softened(chosen, photo)
    found = [
        (rows, *same, scored(soft, soft, *same), False),
        (rows, *turned, scored(soft, soft[:, :, ::-1], *turned), True),
    ]
    for trim in _TRIMS:
        part = trimmed(chosen, trim)
        pairs = hash_pairs(hashes, perceptual_hashes(part)[0])
        found.append((rows, *pairs, scored(soft, softened(part, photo), *pairs), False))
    is_photo = np.zeros(len(signatures), dtype=np.bool_)
    is_photo[rows[photo]] = True
    best: dict[tuple[int, int], tuple[float, bool]] = {}
    for places, first, second, scores, mirrored in found:
        one, other = places[first], places[second]
        least = np.where(is_photo[one] & is_photo[other], min(similarity, photo_similarity), similarity)
        keep = scores >= least
        for i, j, score in zip(one[keep].tolist(), other[keep].tolist(), scores[keep].tolist(), strict=True):
            if score > best.get((i, j), (0.0, False))[0]:
                best[(i, j)] = (score, mirrored)
    ordered = sorted(best)
    return NearPairs(
        np.array([i for i, _ in ordered], dtype=np.int64),
        np.array([j for _, j in ordered], dtype=np.int64),
        np.array([best[pair][0] for pair in ordered], dtype=np.float32),
        np.array([best[pair][1] for pair in ordered], dtype=np.bool_),
    )


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


def hash_pairs(hashes: Hashes, others: Hashes | None = None, radius: int = HASH_RADIUS) -> tuple[Indices, Indices]:
    """Return the pairs of rows `i < j` whose hashes differ in at most `radius` (up to 7) bits, sorted.

    Of more than a few rows with one and the same hash not every pair is returned, but always enough to connect them.

    Args:
        hashes: uint64 of shape (n,).
        others: hashes of the same n pictures in another pose, to which `hashes` are compared; None: `hashes`.
        radius: at most 7.
    """
    keys, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(counts)[:-1]) if len(keys) else []
    pairs: set[tuple[int, int]] = set()
    if others is None:
        other_keys, other_members = keys, members
        for same in members:
            pairs.update((int(same[0]), int(row)) for row in same[1:])
    else:
        other_keys, inverse, counts = np.unique(others, return_inverse=True, return_counts=True)
        other_members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(counts)[:-1]) if len(other_keys) else []
    for left, right in _close_keys(keys, other_keys, radius):
        for u, v in zip(left.tolist(), right.tolist(), strict=True):
            for i in members[u][:_MEMBERS].tolist():
                pairs.update((min(i, j), max(i, j)) for j in other_members[v][:_MEMBERS].tolist() if i != j)
    if not pairs:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    found = np.array(sorted(pairs), dtype=np.int64)
    return found[:, 0], found[:, 1]


def components(n: int, first: Indices, second: Indices) -> Indices:
    """Return for each of `n` rows the lowest row it is connected to through the pairs, shape (n,)."""
    edges = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(n, n))
    _, labels = connected_components(edges, directed=False)
    lowest = np.full(n, n, dtype=np.int64)
    np.minimum.at(lowest, labels, np.arange(n))
    return np.asarray(lowest[labels], dtype=np.int64)


def scored(signatures: Signatures, posed: Signatures, first: Indices, second: Indices) -> npt.NDArray[np.float32]:
    """Return for each pair the better correlation of either one with the other in its pose, shape (m,).

    Args:
        signatures: luminance, uint8 of shape (n, side, side).
        posed: the same pictures in another pose.
        first: with `second`, the rows of each pair.
        second: see `first`.
    """
    scores = np.empty(len(first), np.float32)
    for start in range(0, len(first), 4096):
        block = slice(start, start + 4096)
        one, other = first[block], second[block]
        forth = (unit_vectors(signatures[one]) * unit_vectors(posed[other])).sum(axis=1)
        back = (unit_vectors(signatures[other]) * unit_vectors(posed[one])).sum(axis=1)
        scores[block] = np.maximum(forth, back)
    return scores


def softened(signatures: Signatures, photos: npt.NDArray[np.bool_] | Indices) -> Signatures:
    """Blur photos slightly: in a trimmed copy fine texture falls on other pixels, what the picture shows does not.

    Drawings keep their lines, which are all that tells them apart.
    """
    result = signatures.copy()
    blurred = signatures[photos].astype(np.uint16)
    for axis in (1, 2):
        edges = [(0, 0), (0, 0), (0, 0)]
        edges[axis] = (1, 1)
        padded = np.moveaxis(np.pad(blurred, edges, mode="edge"), axis, 0)
        blurred = np.moveaxis((padded[:-2] + 4 * padded[1:-1] + padded[2:] + 3) // 6, 0, axis)
    result[photos] = blurred
    return result


def unit_vectors(signatures: Signatures) -> npt.NDArray[np.float32]:
    """Return each signature as a vector of mean 0 and length 1, (n, pixels): products of them are correlations."""
    flat = signatures.reshape(len(signatures), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    norm: npt.NDArray[np.float32] = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(norm, 1e-6), dtype=np.float32)


def on_no_ground(signatures: Signatures) -> Indices:
    """Return the rows of pictures in which no level of luminance, give or take one, fills much of the area."""
    pixels = signatures.shape[1] * signatures.shape[2]
    levels = signatures.reshape(len(signatures), pixels) // 3
    counts = np.zeros((len(levels), 86), np.int64)
    np.add.at(counts, (np.arange(len(levels))[:, None], levels), 1)
    return np.flatnonzero(counts.max(axis=1) < _GROUND * pixels)


def trimmed(signatures: Signatures, trim: tuple[float, float, float, float]) -> Signatures:
    """Cut a part out of every signature and enlarge it to the old size, bilinearly.

    Args:
        signatures: luminance, uint8 of shape (n, side, side).
        trim: left, top, right and bottom of the part, 0 to 1.
    """
    left, top, right, bottom = trim
    side = signatures.shape[1]
    rows, columns = _resampling(side, top, bottom), _resampling(side, left, right)
    parts = [
        np.matmul(np.matmul(rows, signatures[start : start + 4096].astype(np.float32)), columns.T)
        for start in range(0, len(signatures), 4096)
    ]
    return np.rint(np.concatenate(parts)).astype(np.uint8) if parts else signatures


def _bits(coefficients: npt.NDArray[np.float32]) -> Hashes:
    flat = coefficients.reshape(len(coefficients), -1)
    # The first coefficient is the mean brightness, which says nothing about the picture.
    above = flat > np.median(flat[:, 1:], axis=1, keepdims=True)
    above[:, 0] = False
    return np.packbits(above, axis=1).view(np.uint64).reshape(-1)


def _close_keys(keys: Hashes, others: Hashes, radius: int) -> Iterator[tuple[Indices, Indices]]:
    """Yield blocks of pairs of positions in two arrays of unique hashes that differ in at most `radius` bits."""
    symmetric = others is keys
    for chunk in range(_CHUNKS):
        shift = np.uint64(chunk * _CHUNK_BITS)
        left = ((keys >> shift) & np.uint64(0xFFFF)).astype(np.int64)
        right = ((others >> shift) & np.uint64(0xFFFF)).astype(np.int64)
        order = np.argsort(right, kind="stable")
        starts = np.searchsorted(right[order], np.arange((1 << _CHUNK_BITS) + 1))
        for probe in _PROBES:
            low, high = starts[left ^ probe], starts[(left ^ probe) + 1]
            for rows, slots in _expanded(low, high):
                candidates = order[slots]
                close = np.bitwise_count(keys[rows] ^ others[candidates]) <= radius
                if symmetric:
                    close &= rows < candidates
                if close.any():
                    yield rows[close], candidates[close]


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


def _resampling(side: int, start: float, stop: float) -> npt.NDArray[np.float32]:
    """Return the weights (side, side) that stretch the part from `start` to `stop` of a line over all of it."""
    centres = (start + (np.arange(side) + 0.5) / side * (stop - start)) * side - 0.5
    centres = centres.clip(0, side - 1)
    return np.maximum(0.0, 1.0 - np.abs(centres[:, None] - np.arange(side)[None, :])).astype(np.float32)
