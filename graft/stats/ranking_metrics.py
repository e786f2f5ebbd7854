"""How the images of one class rank among all, for many resamples at once: the basis of AUROC and average precision.

Only the scores of a class's own images are thresholds, so it is enough to count how many images of each resample lie
below each of them. For a class with few images that is a product of two matrices, thresholds by images and images by
resamples, computed for several classes together; for a class with many, one running sum over the sorted images.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating]
Targets = npt.NDArray[np.int64]

FEW = 64
"""Up to this many images of a class, the product is faster."""
ROWS = 256
"""Thresholds of one product."""
EXACT = 2**24
"""Float32 represents every integer up to this one."""


class Ranking(NamedTuple):
    """Resampled counts at each distinct score of a positive, ascending, each (g, R), and the totals (R,)."""

    gained: Values
    """Positives with this score."""
    positives_below: Values
    below: Values
    """Images with a lower score."""
    upto: Values
    """Images with this or a lower score."""
    positives: Values
    total: Values


class _Thresholds(NamedTuple):
    """The distinct scores (g,) of a class's images, ascending, those images (k,), and where each score begins."""

    label: int
    values: Floats
    images: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]


def rankings(targets: Targets, probabilities: Floats, counted: Floats, classes: Sequence[int]) -> Iterator[Ranking]:
    """Yield the ranking of each class against the rest.

    Args:
        targets: int64 (n,).
        probabilities: float (n, C).
        counted: how often each image counts in each resample (R, n).
        classes: the classes to rank, in the order of the results.
    """
    by_image = np.ascontiguousarray(counted.T)
    total = by_image.sum(axis=0)
    by_class = np.ascontiguousarray(probabilities.T)
    thresholds = [_thresholds(targets, by_class, label) for label in classes]
    exact = total.max(initial=0.0) < EXACT and bool((by_image == np.rint(by_image)).all())
    narrow = by_image.astype(np.float32) if exact else by_image
    waiting: list[_Thresholds] = []
    for one in thresholds:
        if len(one.images) > FEW:
            yield from _by_product(waiting, by_class, by_image, narrow, total)
            waiting = []
            yield _by_running_sum(one, by_class, by_image, total)
            continue
        waiting.append(one)
        if sum(len(held.values) for held in waiting) >= ROWS:
            yield from _by_product(waiting, by_class, by_image, narrow, total)
            waiting = []
    yield from _by_product(waiting, by_class, by_image, narrow, total)


def roc_area(of: Ranking) -> Values:
    """Return the probability that a positive outranks a negative, ties counting half (Mann-Whitney), (R,)."""
    negatives_below = of.below - of.positives_below
    negatives_upto = of.upto - of.positives_below - of.gained
    outranked = (of.gained * (negatives_below + negatives_upto) / 2).sum(axis=0)
    return np.asarray(outranked / (of.positives * (of.total - of.positives)), dtype=np.float64)


def precision_area(of: Ranking) -> Values:
    """Return the sum over thresholds of precision times the gain in recall, as scikit-learn defines it, (R,).

    Without a negative there is nothing to rank: it is not defined then.
    """
    selected, hits = of.total - of.below, of.positives - of.positives_below
    precision = np.divide(hits, selected, out=np.zeros_like(hits), where=selected > 0)
    area = (precision * of.gained).sum(axis=0) / of.positives
    return np.where(of.total > of.positives, area, np.nan)


def _thresholds(targets: Targets, by_class: Floats, label: int) -> _Thresholds:
    images = np.flatnonzero(targets == label)
    score = by_class[label, images]
    order = np.argsort(score, kind="stable")
    values, first = np.unique(score[order], return_index=True)
    return _Thresholds(label, values, images[order], first)


def _by_product(
    thresholds: Sequence[_Thresholds], by_class: Floats, by_image: Floats, narrow: Floats, total: Values
) -> Iterator[Ranking]:
    if not thresholds:
        return
    is_below, others_tied = [], []
    for one in thresholds:
        score = by_class[one.label]
        is_below.append(score < one.values[:, None])
        tied = score == one.values[:, None]
        tied[:, one.images] = False
        others_tied.append(tied)
    below = (np.concatenate(is_below).astype(narrow.dtype) @ narrow).astype(np.float64)
    tied_rows = np.concatenate(others_tied)
    also = np.zeros_like(below)
    if (with_ties := tied_rows.any(axis=1)).any():
        also[with_ties] = tied_rows[with_ties].astype(narrow.dtype) @ narrow
    start = 0
    for one in thresholds:
        rows = slice(start, start := start + len(one.values))
        gained = _gained(one, by_image)
        yield _ranking(gained, below[rows], below[rows] + gained + also[rows], total)


def _by_running_sum(one: _Thresholds, by_class: Floats, by_image: Floats, total: Values) -> Ranking:
    score = by_class[one.label]
    order = np.argsort(score, kind="stable")
    ranked = score[order]
    # Row i holds the count of the i lowest images.
    cumulative = np.zeros((len(order) + 1, by_image.shape[1]))
    np.cumsum(by_image[order], axis=0, out=cumulative[1:])
    below = cumulative[np.searchsorted(ranked, one.values, side="left")]
    upto = cumulative[np.searchsorted(ranked, one.values, side="right")]
    return _ranking(_gained(one, by_image), below, upto, total)


def _gained(one: _Thresholds, by_image: Floats) -> Values:
    if not len(one.images):
        return np.zeros((0, by_image.shape[1]))
    return np.asarray(np.add.reduceat(by_image[one.images], one.first, axis=0), dtype=np.float64)


def _ranking(gained: Values, below: Values, upto: Values, total: Values) -> Ranking:
    return Ranking(gained, np.cumsum(gained, axis=0) - gained, below, upto, gained.sum(axis=0), total)
