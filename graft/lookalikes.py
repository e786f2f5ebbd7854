"""Pictures that a backbone finds alike and that show the same thing: cropped, mirrored, in another light.

Features propose, luminance confirms. Features alone do not tell a copy from a picture of the same kind: of flower
photos, half-size copies reach a cosine of 0.7 where two different photos of one field reach 0.95. So each picture's
nearest neighbours are only candidates, and a pair counts if one of the two, mirrored or not, lies whole inside the
other one.
"""

import numpy as np
import numpy.typing as npt

from graft.duplicates import Indices, NearPairs, Signatures, on_no_ground, scored, trimmed

NEIGHBOURS = 5
CANDIDATE = 0.5
"""Least cosine of a candidate, after the mean is taken off."""
# Parts of a picture that a copy may show: how much of each side, and in how many places along it.
_PARTS = ((1.0, 1), (0.975, 3), (0.95, 3), (0.925, 3), (0.9, 3), (0.85, 4), (0.8, 5))
_FRAMES = tuple(
    (float(left), float(top), float(left) + part, float(top) + part)
    for part, places in _PARTS
    for left in np.linspace(0, 1 - part, places)
    for top in np.linspace(0, 1 - part, places)
)
_BLOCK = 1 << 25


def candidates(features: npt.NDArray[np.floating], groups: npt.NDArray[np.integer]) -> tuple[Indices, Indices]:
    """Return the pairs of rows `first < second` of which one is among the other's nearest neighbours, sorted.

    Compares all pairs, a block of rows at a time: memory stays flat, time grows with the square of n.

    Args:
        features: (n, d).
        groups: (n,); rows of one group are known to belong together and are never paired.
    """
    n = len(features)
    nearest = min(NEIGHBOURS, n - 1)
    if nearest < 1:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    centred = np.asarray(features, dtype=np.float32) - features.mean(axis=0, keepdims=True, dtype=np.float32)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    firsts: list[Indices] = []
    seconds: list[Indices] = []
    for start in range(0, n, step := max(1, _BLOCK // n)):
        alike = unit[start : start + step] @ unit.T
        alike[groups[start : start + step, None] == groups[None, :]] = -1.0
        columns = np.argpartition(-alike, nearest - 1, axis=1)[:, :nearest]
        rows = np.repeat(np.arange(start, start + len(alike)), nearest)
        close = np.take_along_axis(alike, columns, axis=1).ravel() >= CANDIDATE
        firsts.append(rows[close])
        seconds.append(columns.ravel()[close])
    one, other = np.concatenate(firsts), np.concatenate(seconds)
    pairs = np.unique(np.stack([np.minimum(one, other), np.maximum(one, other)], axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def confirmed(signatures: Signatures, first: Indices, second: Indices, similarity: float) -> NearPairs:
    """Return the pairs of photos of which one shows the other, or a part of at least 80 % of its sides.

    Drawings in which one shade fills much of the picture are left to the search by hash: parts of them are alike by
    chance.

    Args:
        signatures: luminance, uint8 of shape (n, 32, 32).
        first: with `second`, the rows of each candidate pair.
        second: see `first`.
        similarity: least correlation of the one with the part of the other.
    """
    photo = np.zeros(len(signatures), dtype=np.bool_)
    photo[on_no_ground(signatures)] = True
    both = photo[first] & photo[second]
    first, second = first[both], second[both]
    best = np.full(len(first), -1.0, dtype=np.float32)
    mirrored = np.zeros(len(first), dtype=np.bool_)
    for frame in _FRAMES:
        part = trimmed(signatures, frame)
        for turned in (False, True):
            scores = scored(signatures, part[:, :, ::-1] if turned else part, first, second)
            mirrored = np.where(scores > best, turned, mirrored)
            best = np.maximum(best, scores)
    keep = best >= similarity
    return NearPairs(first[keep], second[keep], best[keep], mirrored[keep])
