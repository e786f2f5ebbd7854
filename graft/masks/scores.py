"""What answers are worth: overlap of two masks by class, agreement of their outlines, and intervals over photos."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from graft.stats.confidence_intervals import Interval, bootstrap, resamples
from graft.tasks.pixels import IGNORED

Floats = npt.NDArray[np.float64]
Masks = npt.NDArray[np.uint8]
BOUNDARY_PIXELS = 2
"""How far apart two outlines may be and still agree."""


class Overlap(NamedTuple):
    """The pixels of one photo (or the sum over photos), by class, each (k,)."""

    both: Floats
    """Pixels of the class in the truth and in the answer."""
    truth: Floats
    answer: Floats

    @property
    def iou(self) -> Floats:
        """Intersection over union of every class (Jaccard 1912); NaN for a class in neither mask."""
        return _ratio(self.both, self.truth + self.answer - self.both)

    @property
    def dice(self) -> Floats:
        """Dice coefficient (1945) of every class, twice the intersection over both areas; NaN as for `iou`."""
        return _ratio(2 * self.both, self.truth + self.answer)


def overlap(truth: Masks, answer: Masks, classes: int) -> Overlap:
    """Count the pixels of two masks of the same size (h, w) by class; pixels marked `IGNORED` do not count."""
    counted = truth != IGNORED
    pairs = truth[counted].astype(np.int64) * classes + answer[counted]
    table = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.float64)
    return Overlap(np.diagonal(table).copy(), table.sum(axis=1), table.sum(axis=0))


def object_mean(values: Floats) -> float:
    """Return the mean over the classes other than the background (k,) that one of the masks has.

    Where neither mask has any object, nothing was missed and nothing invented: 1.
    """
    own = values[1:]
    return float(np.nanmean(own)) if not np.isnan(own).all() else 1.0


def boundary_f(truth: Masks, answer: Masks, classes: int, within: int = BOUNDARY_PIXELS) -> float:
    """Return how well outlines agree: F1 of outline pixels that have one of the other mask within some pixels.

    The mean over the classes other than the background that one of the masks has (Csurka et al., BMVC 2013).
    """
    near = ndimage.generate_binary_structure(2, 1)
    disk = ndimage.iterate_structure(near, within)
    found = []
    for label in range(1, classes):
        own, other = truth == label, (answer == label) & (truth != IGNORED)
        if not own.any() and not other.any():
            continue
        if not own.any() or not other.any():
            found.append(0.0)
            continue
        edges = [area & ~ndimage.binary_erosion(area, near) for area in (own, other)]
        reach = [ndimage.binary_dilation(edge, disk) for edge in edges]
        recall, precision = (edges[0] & reach[1]).sum() / edges[0].sum(), (edges[1] & reach[0]).sum() / edges[1].sum()
        found.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return float(np.mean(found)) if found else 1.0


def mean_interval(
    values: Sequence[float] | Floats, groups: npt.NDArray[np.object_], count: int, confidence: float, seed: int
) -> Interval:
    """Return the mean of one value per photo with its bootstrap interval over groups of photos; NaN are left out."""
    known = np.asarray(values, dtype=np.float64)
    there = ~np.isnan(known)
    known, of = known[there], groups[there].astype(str)

    def mean(weights: npt.NDArray[np.floating] | None) -> Floats:
        if weights is None:
            return np.array([known.mean() if len(known) else np.nan])
        return np.asarray(weights @ known / np.maximum(weights.sum(axis=1), 1))

    if not len(known):
        return Interval(np.nan, np.nan, np.nan)
    return bootstrap(mean, resamples(of, np.zeros(len(of), np.int64), count, seed), confidence)


def _ratio(above: Floats, below: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > 0, above / below, np.nan)
