"""Near-duplicates by perceptual hash: the same picture re-encoded, resized, brightened, mirrored, turned or trimmed.

Close hashes are candidates (see `perceptual_hashes`). A candidate counts only if the 32 x 32 luminance signatures
correlate: many pairs of simple drawings have equal hashes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from graft.core.mapped_arrays import temporary_array
from graft.quality.perceptual_hashes import Hashes, Indices, Signatures, hash_pairs, perceptual_hashes

Pose = Callable[[Signatures], Signatures]
"""Turns signatures into those of the mirrored or trimmed pictures."""

# Signatures per block, and shades of luminance, three levels each.
_BLOCK_ROWS, _SHADES = 1024, 86
# What a trimmed copy still shows, as left, top, right and bottom: 95 % of width and height, or 90 %.
_TRIMS = (
    *((0.025, 0.025, 0.975, 0.975), (0.05, 0.05, 0.95, 0.95), (0.0, 0.0, 0.95, 0.95), (0.05, 0.05, 1.0, 1.0)),
    *((0.05, 0.0, 1.0, 0.95), (0.0, 0.05, 0.95, 1.0)),
)
# A picture that agrees this well with a turned photo or drawing shows the same; skies, textures and digits agree less.
_TURNED_SIMILARITY, _TURNED_DRAWING = 0.97, 0.99
# Drawings and digits in which one shade fills more than this fraction are similar by chance.
_BACKGROUND = 0.4
# With a standard deviation of luminance (0 to 255) below this, a picture is flat and similar to every other one.
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


def find_near_duplicates(
    signatures: Signatures, similarity: float, photo_similarity: float = 1.0, rows: Indices | None = None
) -> NearPairs:
    """Find near-duplicates among files of different content, including mirrored, turned and slightly trimmed ones.

    Only the hashes are kept in memory; signatures of possible copies are in a temporary file.

    Args:
        signatures: luminance, uint8 of shape (n, 32, 32), memory-mapped or not.
        similarity: least correlation of two signatures that counts as the same picture.
        photo_similarity: the same for pictures without a flat background, which are less often similar by chance.
        rows: rows to compare, ascending; None: all.

    Returns:
        The pairs, sorted.
    """
    rows = _not_flat(signatures, np.arange(len(signatures)) if rows is None else rows)
    photo = np.zeros(len(signatures), dtype=np.bool_)
    photo[without_flat_background(signatures)] = True
    hashes, mirrored_hashes = _hashed(signatures, rows, _unchanged)
    poses: list[tuple[Pose, Hashes | None]] = [(_unchanged, None), (_mirrored, mirrored_hashes)]
    # A quarter turn to the left is found as one to the right of the other picture.
    poses += [(pose, None) for pose in _TURNED]
    poses += [(partial(crop_signatures, trim=trim), None) for trim in _TRIMS]
    found: list[tuple[Indices, Indices, npt.NDArray[np.float32], npt.NDArray[np.bool_]]] = []
    with temporary_array(signatures.shape) as store:
        plain = _BlurredStore(signatures, photo, _unchanged, store)
        for pose, others in poses:
            if pose is _unchanged:
                pairs = hash_pairs(hashes)
            else:
                pairs = hash_pairs(hashes, _hashed(signatures, rows, pose)[0] if others is None else others)
            with temporary_array(signatures.shape) as posed_store:
                posed = plain if pose is _unchanged else _BlurredStore(signatures, photo, pose, posed_store)
                for places, other_places in pairs:
                    first, second = rows[places], rows[other_places]
                    scores = _scored(plain, posed, first, second)
                    photos = photo[first] & photo[second]
                    least = np.where(photos, min(similarity, photo_similarity), similarity)
                    if pose in _TURNED:
                        least = np.where(
                            photos, max(photo_similarity, _TURNED_SIMILARITY), max(similarity, _TURNED_DRAWING)
                        )
                    keep = scores >= least
                    turned = np.full(int(keep.sum()), pose is _mirrored)
                    found.append((first[keep], second[keep], scores[keep], turned))
    return _best_of(found)


def blur_photos(signatures: Signatures, photos: npt.NDArray[np.bool_] | Indices) -> Signatures:
    """Blur photos slightly: in a trimmed copy, fine texture moves to other pixels, but larger structures do not.

    Drawings are not blurred: their lines are the only difference between them.
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
    """Return each signature as a vector of mean 0 and length 1, (n, pixels); dot products are correlations."""
    flat = signatures.reshape(len(signatures), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    norm: npt.NDArray[np.float32] = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(norm, 1e-6), dtype=np.float32)


def without_flat_background(signatures: Signatures) -> Indices:
    """Return the rows of pictures in which no shade of luminance (three levels) fills much of the area."""
    pixels = signatures.shape[1] * signatures.shape[2]
    commonest = np.zeros(len(signatures), np.int64)
    for start in range(0, len(signatures), _BLOCK_ROWS):
        levels = signatures[start : start + _BLOCK_ROWS].reshape(-1, pixels) // 3
        cells = levels + _SHADES * np.arange(len(levels))[:, None]
        counts = np.bincount(cells.ravel(), minlength=_SHADES * len(levels)).reshape(-1, _SHADES)
        commonest[start : start + _BLOCK_ROWS] = counts.max(axis=1)
    return np.flatnonzero(commonest < _BACKGROUND * pixels)


def crop_signatures(signatures: Signatures, trim: tuple[float, float, float, float]) -> Signatures:
    """Crop every signature and resize it bilinearly to its old size.

    Args:
        signatures: luminance, uint8 of shape (n, side, side).
        trim: left, top, right and bottom of the crop, 0 to 1.
    """
    left, top, right, bottom = trim
    side = signatures.shape[1]
    rows, columns = _resampling(side, top, bottom), _resampling(side, left, right)
    parts = [
        np.matmul(np.matmul(rows, signatures[start : start + 4096].astype(np.float32)), columns.T)
        for start in range(0, len(signatures), 4096)
    ]
    return np.rint(np.concatenate(parts)).astype(np.uint8) if parts else signatures


@dataclass
class _BlurredStore:
    """Blurred signatures in a pose, computed on first use and kept in a file."""

    signatures: Signatures
    photo: npt.NDArray[np.bool_]
    pose: Pose
    store: Signatures

    def __post_init__(self) -> None:
        self._made = np.zeros(len(self.signatures), dtype=np.bool_)

    def __call__(self, rows: Indices) -> Signatures:
        """Return the signatures of `rows`."""
        missing = np.unique(rows[~self._made[rows]])
        for part in _blocks(missing):
            self.store[part] = blur_photos(self.pose(np.asarray(self.signatures[part])), self.photo[part])
        self._made[missing] = True
        return np.asarray(self.store[rows])


def _unchanged(signatures: Signatures) -> Signatures:
    return signatures


def _mirrored(signatures: Signatures) -> Signatures:
    return signatures[:, :, ::-1]


def _quarter_turned(signatures: Signatures) -> Signatures:
    return np.rot90(signatures, axes=(1, 2))


def _half_turned(signatures: Signatures) -> Signatures:
    return signatures[:, ::-1, ::-1]


def _upside_down(signatures: Signatures) -> Signatures:
    return signatures[:, ::-1]


def _transposed(signatures: Signatures) -> Signatures:
    return signatures.transpose(0, 2, 1)


def _transversed(signatures: Signatures) -> Signatures:
    return signatures[:, ::-1, ::-1].transpose(0, 2, 1)


_TURNED: tuple[Pose, ...] = (_quarter_turned, _half_turned, _upside_down, _transposed, _transversed)
"""With the mirrored pose, all ways to lay a picture on its own frame; the last three are turned and mirrored."""


def _blocks(rows: Indices) -> Iterator[Indices]:
    """Yield `rows` in blocks."""
    for start in range(0, len(rows), _BLOCK_ROWS):
        yield rows[start : start + _BLOCK_ROWS]


def _not_flat(signatures: Signatures, rows: Indices) -> Indices:
    kept = [part[signatures[part].std(axis=(1, 2)) >= _FLAT] for part in _blocks(rows)]
    return np.concatenate(kept) if kept else rows


def _hashed(signatures: Signatures, rows: Indices, pose: Pose) -> tuple[Hashes, Hashes]:
    """Return the hashes of pictures in a pose, and of their mirror images."""
    parts = [perceptual_hashes(pose(np.asarray(signatures[part]))) for part in _blocks(rows)]
    nothing = np.empty(0, np.uint64)
    return np.concatenate([nothing, *(one for one, _ in parts)]), np.concatenate([nothing, *(two for _, two in parts)])


def _scored(plain: _BlurredStore, posed: _BlurredStore, first: Indices, second: Indices) -> npt.NDArray[np.float32]:
    """Return for each pair the higher correlation of either one with the other in the pose, shape (m,)."""
    scores = np.empty(len(first), np.float32)
    for start in range(0, len(first), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        one, other = first[block], second[block]
        forth = (unit_vectors(plain(one)) * unit_vectors(posed(other))).sum(axis=1)
        back = (unit_vectors(plain(other)) * unit_vectors(posed(one))).sum(axis=1)
        scores[block] = np.maximum(forth, back)
    return scores


def _best_of(
    found: Sequence[tuple[Indices, Indices, npt.NDArray[np.float32], npt.NDArray[np.bool_]]],
) -> NearPairs:
    """Return every pair once, with its highest similarity, sorted."""
    if not found:
        nothing = np.empty(0, np.int64)
        return NearPairs(nothing, nothing, np.empty(0, np.float32), np.empty(0, np.bool_))
    first, second, scores, mirrored = (np.concatenate(parts) for parts in zip(*found, strict=True))
    # Ties go to the pose that was tried first.
    order = np.lexsort((np.arange(len(first)), -scores, second, first))
    first, second = first[order], second[order]
    kept = np.ones(len(first), dtype=np.bool_)
    kept[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return NearPairs(first[kept], second[kept], scores[order][kept], mirrored[order][kept])


def _resampling(side: int, start: float, stop: float) -> npt.NDArray[np.float32]:
    """Return the weights (side, side) that stretch the part of a line from `start` to `stop` to its full length."""
    centres = (start + (np.arange(side) + 0.5) / side * (stop - start)) * side - 0.5
    centres = centres.clip(0, side - 1)
    return np.maximum(0.0, 1.0 - np.abs(centres[:, None] - np.arange(side)[None, :])).astype(np.float32)
