"""Domain shift between two sets of images, measured by a classifier two-sample test.

If a classifier separates the images of one set from those of the other better than chance, the sets differ (Lopez-Paz
and Oquab, "Revisiting classifier two-sample tests", ICLR 2017). Its AUROC measures the difference: 0.5 is none, 1 is
perfect separation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.quality.two_sample_forest import Numbers, RowReader, auroc, out_of_bag_votes

Z95 = 1.96
# With fewer images the interval is too wide to be useful.
MIN_IMAGES = 20
MAX_VALUES = 50
STATISTICS: Mapping[str, str] = {
    "width": "width",
    "height": "height",
    "aspect": "aspect",
    "brightness": "brightness",
    "contrast": "contrast",
    "darkest": "shadows",
    "brightest": "highlights",
    "sharpness": "sharpness",
    "entropy": "detail",
    "red": "red",
    "green": "green",
    "blue": "blue",
    "saturation": "saturation",
}
"""Columns that are compared, and their names in messages."""


@dataclass(frozen=True, slots=True)
class Shift:
    """How well a classifier separates two sets."""

    about: str
    """`pictures`, `features`, or the name of a column such as `label`."""
    between: tuple[str, str]
    auroc: float
    low: float
    high: float
    """95 % interval."""
    differences: tuple[str, ...] = ()
    """The largest differences, in words."""


def picture_shift(first: pd.DataFrame, second: pd.DataFrame, between: tuple[str, str], seed: int) -> Shift | None:
    """Compare the sizes, luminance and colours of two sets; None if one is too small.

    Args:
        first: rows with the columns of `STATISTICS`.
        second: likewise.
        between: names of the two sets.
        seed: seed of the forest.
    """
    if min(len(first), len(second)) < MIN_IMAGES:
        return None
    both = pd.concat([first, second])[list(STATISTICS)].astype(float)
    both[["width", "height", "aspect"]] = np.log(both[["width", "height", "aspect"]])
    shift = embedding_shift(both.to_numpy()[: len(first)], both.to_numpy()[len(first) :], between, seed, "pictures")
    return replace(shift, differences=_differences(first, second))


def embedding_shift(first: Numbers, second: Numbers, between: tuple[str, str], seed: int, about: str) -> Shift:
    """Compare two sets of vectors, (n, d) and (m, d), with a random forest.

    Args:
        first: one set.
        second: the other.
        between: names of the two sets.
        seed: seed of the forest.
        about: what the vectors describe.
    """
    both = np.concatenate([first, second])
    return classifier_shift(lambda rows: both[rows], (len(first), len(second)), between, seed, about)


def classifier_shift(read: RowReader, sizes: tuple[int, int], between: tuple[str, str], seed: int, about: str) -> Shift:
    """Compare two sets of vectors with a random forest; only the rows that it uses are read.

    Args:
        read: returns the vectors of given rows; the rows of the second set follow those of the first.
        sizes: numbers of rows of the two sets.
        between: names of the two sets.
        seed: seed of the forest.
        about: what the vectors describe.
    """
    is_second = np.arange(sum(sizes)) >= sizes[0]
    votes = out_of_bag_votes(read, np.where(is_second, "second", "first"), seed, min_samples_leaf=5)
    area, error = auroc(votes.shares[:, 1], is_second[votes.rows])
    return _shift(about, between, area, error)


def category_shift(
    about: str, first: Sequence[str], second: Sequence[str], between: tuple[str, str], seed: int
) -> Shift | None:
    """Compare how often each value of a column occurs in two sets; None if one is too small or has too many values.

    The score of an image is how much more frequent its value is in the second set, counted on the other half of the
    images.
    """
    if min(len(first), len(second)) < MIN_IMAGES:
        return None
    values = sorted({*first, *second})
    if not 1 < len(values) <= MAX_VALUES:
        return None
    codes = pd.Categorical([*first, *second], categories=values).codes.astype(np.int64)
    is_second = np.arange(len(codes)) >= len(first)
    half = np.random.default_rng(seed).permutation(len(codes)) % 2
    scores = np.empty(len(codes))
    for side in (0, 1):
        counted = half != side
        in_first = np.bincount(codes[counted & ~is_second], minlength=len(values)) + 1.0
        in_second = np.bincount(codes[counted & is_second], minlength=len(values)) + 1.0
        ratio = in_second / in_second.sum() / (in_first / in_first.sum())
        scores[~counted] = ratio[codes[~counted]]
    area, error = auroc(scores, is_second)
    share = {name: (np.mean([v == name for v in first]), np.mean([v == name for v in second])) for name in values}
    changed = sorted(values, key=lambda name: -abs(share[name][1] - share[name][0]))[:3]
    words = tuple(f"{name!r} {share[name][0]:.0%} against {share[name][1]:.0%}" for name in changed)
    return _shift(about, between, area, error, words)


def _shift(about: str, between: tuple[str, str], area: float, error: float, differences: tuple[str, ...] = ()) -> Shift:
    return Shift(about, between, area, max(0.0, area - Z95 * error), min(1.0, area + Z95 * error), differences)


def _differences(first: pd.DataFrame, second: pd.DataFrame) -> tuple[str, ...]:
    """Return the statistics whose medians differ most, relative to their interquartile range."""
    apart: list[tuple[float, str]] = []
    for column, name in STATISTICS.items():
        one, other = (frame[column].to_numpy(dtype=np.float64) for frame in (first, second))
        middle_one, middle_other = float(np.median(one)), float(np.median(other))
        spread = max(_spread(one), _spread(other), 1e-9)
        apart.append((abs(middle_other - middle_one) / spread, f"{name} {middle_one:.3g} against {middle_other:.3g}"))
    return tuple(text for distance, text in sorted(apart, reverse=True)[:3] if distance > 0)


def _spread(values: npt.NDArray[np.float64]) -> float:
    low, high = np.percentile(values, [25, 75])
    return float(high - low)
