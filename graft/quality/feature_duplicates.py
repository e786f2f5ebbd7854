"""Near-duplicates that hashes miss, found by features: cropped, mirrored or with changed brightness and colours.

Features find candidates, luminance confirms them. Features alone cannot separate a copy from a similar picture: among
flower photos, half-size copies reach a cosine of 0.7 where two different photos of one field reach 0.95. So each
picture's nearest neighbours are only candidates, and a pair counts if one of the two, mirrored or not, is contained in
the other.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from graft.quality.near_duplicates import NearPairs, blur_photos, crop_signatures, unit_vectors, without_flat_background
from graft.quality.nearest_neighbours import find_nearest
from graft.quality.perceptual_hashes import Indices, Signatures

NEIGHBOURS = 5
MIN_COSINE = 0.5
"""Least cosine of a candidate, after subtracting the mean."""
# Parts of a picture that a copy may show: the fraction of each side, and the number of positions along it.
_PARTS = ((1.0, 1), (0.975, 3), (0.95, 3), (0.925, 3), (0.9, 3), (0.85, 4), (0.8, 5))
_FRAMES = tuple(
    (float(left), float(top), float(left) + part, float(top) + part)
    for part, places in _PARTS
    for left in np.linspace(0, 1 - part, places)
    for top in np.linspace(0, 1 - part, places)
)
_DRAWING_SIMILARITY = 0.985
_COARSE_MARGINS = (0.3, 0.1)
"""How much lower the correlation at 8 x 8 may be, for photos and for drawings."""
_PAIRS = 1024


def find_candidates(features: npt.NDArray[np.floating], groups: npt.NDArray[np.integer]) -> tuple[Indices, Indices]:
    """Return the pairs of rows `first < second` in which one is among the other's nearest neighbours, sorted.

    Args:
        features: (n, d), memory-mapped or not.
        groups: (n,); rows of one group belong together already and are never paired.
    """
    found, cosines = find_nearest(features, groups, min(NEIGHBOURS, max(len(features) - 1, 1)))
    rows, places = np.nonzero(cosines >= MIN_COSINE)
    others = found[rows, places]
    pairs = np.unique(np.stack([np.minimum(rows, others), np.maximum(rows, others)], axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def confirm_pairs(signatures: Signatures, first: Indices, second: Indices, similarity: float) -> NearPairs:
    """Return the pairs in which one picture shows the other, or a part of at least 80 % of its sides.

    Args:
        signatures: luminance, uint8 of shape (n, 32, 32).
        first: with `second`, the rows of each candidate pair.
        second: see `first`.
        similarity: least correlation of one photo with the part of the other. Drawings need more: one shade fills much
            of the picture, so that parts are similar by chance.
    """
    photo = np.zeros(len(signatures), dtype=np.bool_)
    photo[without_flat_background(signatures)] = True
    photos = photo[first] & photo[second]
    least = np.where(photos, similarity, max(similarity, _DRAWING_SIMILARITY))
    # A sixteenth of the pixels is enough to reject most pairs.
    coarse, _ = _best(lambda rows: _shrunk(signatures[rows]), first, second)
    likely = coarse >= least - np.where(photos, *_COARSE_MARGINS)
    first, second, least = first[likely], second[likely], least[likely]
    best, mirrored = _best(lambda rows: blur_photos(signatures[rows], photo[rows]), first, second)
    keep = best >= least
    return NearPairs(first[keep], second[keep], best[keep], mirrored[keep])


def _best(
    load: Callable[[Indices], Signatures], first: Indices, second: Indices
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return for each pair the best correlation over all parts, and whether the two are mirrored in that part.

    Args:
        load: returns the signatures of given rows; it is called for a block of pairs at a time.
        first: with `second`, the rows of each pair.
        second: see `first`.
    """
    best = np.full(len(first), -1.0, dtype=np.float32)
    mirrored = np.zeros(len(first), dtype=np.bool_)
    for start in range(0, len(first), _PAIRS):
        block = slice(start, start + _PAIRS)
        rows, places = np.unique(np.concatenate([first[block], second[block]]), return_inverse=True)
        one, other = np.split(places, 2)
        signatures = load(rows)
        whole = unit_vectors(signatures)
        for frame in _FRAMES:
            part = crop_signatures(signatures, frame)
            for turned, posed in ((False, unit_vectors(part)), (True, unit_vectors(part[:, :, ::-1]))):
                forth = np.einsum("ij,ij->i", whole[one], posed[other])
                back = np.einsum("ij,ij->i", whole[other], posed[one])
                scores = np.maximum(forth, back)
                mirrored[block] = np.where(scores > best[block], turned, mirrored[block])
                best[block] = np.maximum(best[block], scores)
    return best, mirrored


def _shrunk(signatures: Signatures, side: int = 8) -> Signatures:
    block = signatures.shape[1] // side
    blocks = signatures.reshape(len(signatures), side, block, side, block)
    return np.asarray(np.rint(blocks.mean(axis=(2, 4))), dtype=np.uint8)
