"""Images as points of a plane, similar ones near each other: t-SNE of their features, and a sheet of thumbnails.

t-SNE (van der Maaten and Hinton 2008) keeps who is next to whom; distances between far points and the sizes of clusters
mean nothing. It starts from the two principal components, so the same features give the same map and the arrangement
of the clusters follows the data (Kobak and Linderman 2021).
"""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from graft.core.cpu import available_cores
from graft.evaluation.gallery import jpeg_uri
from graft.stats.subsampling import evenly_spaced

MOST = 600
"""Images on a map, however many there are: what a page and an eye can take."""
LEAST = 12
"""Fewer images make no map."""
COMPONENTS, PERPLEXITY, ITERATIONS = 50, 30.0, 500
TILE, TILES_A_ROW, TILE_QUALITY = 56, 30, 68

Array32 = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class EmbeddingMap:
    """Images as points."""

    rows: Rows
    """Rows of the dataset (n,), ascending."""
    places: Array32
    """Between 0 and 1 (n, 2): from the left, from the top."""
    sheet: str
    """Thumbnails of `TILE` pixels in the order of `rows`, `TILES_A_ROW` in a row, as a JPEG in a data URI."""


def rows_on_map(images: int, wanted: Sequence[int] | Rows, most: int = MOST) -> Rows:
    """Return which images are on a map, ascending: an even sample, of which `wanted` ones fill half at most.

    Args:
        images: in the dataset.
        wanted: rows that say most, such as mistakes.
        most: rows to return.
    """
    if images <= most:
        return np.arange(images)
    kept = np.asarray(wanted, dtype=np.int64)[evenly_spaced(len(wanted), most // 2)]
    others = np.setdiff1d(np.arange(images), kept)
    return np.sort(np.concatenate([kept, others[evenly_spaced(len(others), most - len(kept))]]))


def embedding_map(features: Array32, rows: Rows, tile: Callable[[int], Pixels]) -> EmbeddingMap | None:
    """Place images by their features; None if there are fewer than `LEAST`.

    Args:
        features: of these rows (n, d).
        rows: of the dataset (n,).
        tile: returns an image's thumbnail, uint8 (TILE, TILE, 3), by its row.
    """
    if len(rows) < LEAST:
        return None
    with ThreadPoolExecutor(available_cores()) as pool:
        tiles = list(pool.map(tile, rows.tolist()))
    return EmbeddingMap(rows, placed(features), _sheet(tiles))


def placed(features: Array32) -> Array32:
    """Return a place in the unit square for each row of features, float32 (n, 2)."""
    # late: importing scikit-learn takes longer than most maps
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # so few points are slower with more threads, which would also spin meanwhile
        components = _components(features)
        start = components[:, :2] / max(float(components[:, 0].std()), 1e-12) * 1e-4
        fitted = TSNE(
            perplexity=min(PERPLEXITY, (len(features) - 1) / 3),
            init=start,
            max_iter=ITERATIONS,
            random_state=0,
            n_jobs=1,
        )
        places = fitted.fit_transform(components)
    low, high = places.min(axis=0), places.max(axis=0)
    return np.asarray((places - low) / np.maximum(high - low, 1e-12), dtype=np.float32)


def _components(features: Array32) -> Array32:
    """Return the principal components of features of unit length (n, k), at least two; their signs are fixed."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    left, strengths, _ = np.linalg.svd(unit - unit.mean(axis=0), full_matrices=False)
    components = (left * strengths)[:, :COMPONENTS]
    if components.shape[1] < 2:
        components = np.pad(components, ((0, 0), (0, 1)))
    largest = components[np.abs(components).argmax(axis=0), np.arange(components.shape[1])]
    return np.asarray(components * np.where(largest < 0, -1, 1), dtype=np.float32)


def _sheet(tiles: Sequence[Pixels]) -> str:
    rows = -(-len(tiles) // TILES_A_ROW)
    sheet = np.zeros((rows * TILE, TILES_A_ROW * TILE, 3), dtype=np.uint8)
    for place, tile in enumerate(tiles):
        top, left = place // TILES_A_ROW * TILE, place % TILES_A_ROW * TILE
        sheet[top : top + TILE, left : left + TILE] = tile
    stream = io.BytesIO()
    Image.fromarray(sheet).save(stream, "JPEG", quality=TILE_QUALITY, optimize=True)
    return jpeg_uri(stream.getvalue())
