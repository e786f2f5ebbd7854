"""Nearest neighbours by cosine among features that stay on disk: exact for few images, through cells for many.

Above a number of images, each is compared only with those in the nearest cells, in time that grows with n ** 1.5: an
inverted file (Jegou, Douze and Schmid, "Product quantization for nearest neighbor search", PAMI 2011) over the features
themselves. Libraries for this keep every vector in memory; here rows of a memory-mapped file are read when they are
needed, and only the neighbours found so far are kept.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from graft.core.row_blocks import ArrayRows, mean_and_std

Indices = npt.NDArray[np.int64]
Array32 = npt.NDArray[np.float32]
Unit = Callable[[Indices], Array32]
"""From rows to their features, with the mean subtracted and scaled to length one."""

MAX_EXACT_ROWS = 8_192
"""Up to this number of rows all pairs are compared."""
PROBES = 16
"""Cells that are searched for each row."""
# Rows that the cells' centres are fitted to: per cell, and at most.
_PER_CELL, _MAX_DRAWN = 32, 65_536
# Rows that are compared at a time: two million cosines.
_QUERIES, _MEMBERS = 512, 4096


def find_nearest(
    features: npt.NDArray[np.floating], groups: npt.NDArray[np.integer], count: int, exact: int = MAX_EXACT_ROWS
) -> tuple[Indices, Array32]:
    """Return the nearest rows of every row, (n, count), and their cosines, unordered; -1 if there are fewer.

    Cosines are computed after subtracting the mean.

    Args:
        features: (n, d), memory-mapped or not.
        groups: (n,); rows of one group do not count as neighbours.
        count: number of neighbours.
        exact: up to this number of rows all pairs are compared; above it, a true neighbour may be missed.
    """
    n = len(features)
    found, cosines = np.full((n, count), -1, np.int64), np.full((n, count), -1.0, np.float32)
    if n < 2:
        return found, cosines
    mean = mean_and_std(ArrayRows((features,)))[0].astype(np.float32)

    def unit(rows: Indices) -> Array32:
        centred = np.asarray(features[rows], dtype=np.float32) - mean
        return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12))

    everyone = np.arange(n)
    pairs = iter([(everyone, everyone)]) if n <= exact else _cells(unit, n)
    for queries, members in pairs:
        for rows in _cut(queries, _QUERIES):
            asking = unit(rows)
            for others in _cut(members, _MEMBERS):
                alike = asking @ unit(others).T
                alike[groups[rows, None] == groups[None, others]] = -1.0
                best = _largest(alike, count)
                _keep(found, cosines, rows, others[best], np.take_along_axis(alike, best, axis=1))
    found[cosines <= -1.0] = -1
    return found, cosines


def _keep(found: Indices, cosines: Array32, rows: Indices, others: Indices, alike: Array32) -> None:
    """Merge new neighbours into those that `rows` have already."""
    both, all_alike = np.concatenate([found[rows], others], axis=1), np.concatenate([cosines[rows], alike], axis=1)
    best = _largest(all_alike, found.shape[1])
    found[rows], cosines[rows] = np.take_along_axis(both, best, axis=1), np.take_along_axis(all_alike, best, axis=1)


def _largest(values: Array32, count: int) -> Indices:
    """Return the columns of the `count` largest values of every row; all columns if there are no more."""
    if values.shape[1] <= count:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape)
    return np.argpartition(-values, count - 1, axis=1)[:, :count]


def _cells(unit: Unit, n: int) -> Iterator[tuple[Indices, Indices]]:
    """Yield for each cell the rows that search it and the rows that are in it."""
    centres = _centres(unit, n, max(PROBES, round(math.sqrt(PROBES * n))))
    near = np.empty((n, PROBES), np.int32)
    for rows in _cut(np.arange(n), _QUERIES):
        alike = unit(rows) @ centres.T
        columns = _largest(alike, PROBES)
        order = np.argsort(-np.take_along_axis(alike, columns, axis=1), axis=1, kind="stable")
        near[rows] = np.take_along_axis(columns, order, axis=1)
    cells = np.arange(len(centres) + 1)
    members, looking = np.argsort(near[:, 0], kind="stable"), np.argsort(near.ravel(), kind="stable")
    ends_of_members = np.searchsorted(near[members, 0], cells)
    ends_of_looking = np.searchsorted(near.ravel()[looking], cells)
    for cell in range(len(centres)):
        yield (
            looking[ends_of_looking[cell] : ends_of_looking[cell + 1]] // PROBES,
            members[ends_of_members[cell] : ends_of_members[cell + 1]],
        )


def _centres(unit: Unit, n: int, count: int) -> Array32:
    """Return the centres of `count` cells, of length one."""
    from sklearn.cluster import MiniBatchKMeans

    drawn = np.sort(np.random.default_rng(0).choice(n, min(n, _PER_CELL * count, _MAX_DRAWN), replace=False))
    means = MiniBatchKMeans(count, init="random", n_init=1, max_iter=3, batch_size=4096, random_state=0)
    centres = means.fit(unit(drawn)).cluster_centers_.astype(np.float32)
    return np.asarray(centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12))


def _cut(rows: Indices, most: int) -> Iterator[Indices]:
    for start in range(0, len(rows), most):
        yield rows[start : start + most]
