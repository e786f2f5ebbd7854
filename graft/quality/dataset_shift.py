"""Domain shift between two sets of images, measured by a classifier two-sample test.

If a classifier separates the images of one set from those of the other better than chance, the sets differ (Lopez-Paz
and Oquab, "Revisiting classifier two-sample tests", ICLR 2017). Its AUROC measures the difference: 0.5 is none, 1 is
perfect separation. Groups of images are held out as a whole, and the interval is counted between them: any two videos
differ, and a classifier that has seen one frame recognises the next.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.quality.two_sample_forest import Numbers, RowReader, held_out_votes
from graft.stats.clustered_auroc import clustered_auroc
from graft.stats.confidence_intervals import Interval

Groups = npt.NDArray[Any]
# With fewer images, or images of fewer groups, the interval is too wide to be useful.
MIN_IMAGES = 20
MIN_GROUPS = 5
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


def enough(first: Groups, second: Groups) -> bool:
    """Return whether two sets can be compared, given the group of each of their images, (n,) and (m,)."""
    sets = (first, second)
    return min(map(len, sets)) >= MIN_IMAGES and min(len(np.unique(groups)) for groups in sets) >= MIN_GROUPS


def picture_shift(first: pd.DataFrame, second: pd.DataFrame, between: tuple[str, str], seed: int) -> Shift | None:
    """Compare the sizes, luminance and colours of two sets; None if one is too small.

    Args:
        first: rows with `group` and the columns of `STATISTICS`.
        second: likewise.
        between: names of the two sets.
        seed: seed of the forest.
    """
    groups = (_names(first["group"]), _names(second["group"]))
    if not enough(*groups):
        return None
    both = pd.concat([first, second])[list(STATISTICS)].astype(float)
    both[["width", "height", "aspect"]] = np.log(both[["width", "height", "aspect"]])
    numbers = both.to_numpy()
    shift = embedding_shift(numbers[: len(first)], numbers[len(first) :], groups, between, seed, "pictures")
    return replace(shift, differences=_differences(first, second))


def embedding_shift(
    first: Numbers, second: Numbers, groups: tuple[Groups, Groups], between: tuple[str, str], seed: int, about: str
) -> Shift:
    """Compare two sets of vectors, (n, d) and (m, d), with a random forest.

    Args:
        first: one set.
        second: the other.
        groups: names of the groups of their images, (n,) and (m,); each at least `MIN_GROUPS` different ones.
        between: names of the two sets.
        seed: seed of the forest.
        about: what the vectors describe.
    """
    both = np.concatenate([first, second])
    return classifier_shift(lambda rows: both[rows], groups, between, seed, about)


def classifier_shift(
    read: RowReader, groups: tuple[Groups, Groups], between: tuple[str, str], seed: int, about: str
) -> Shift:
    """Compare two sets of vectors with a random forest; only the rows that it uses are read.

    Args:
        read: returns the vectors of given rows; the rows of the second set follow those of the first.
        groups: names of the groups of the images of the two sets; each at least `MIN_GROUPS` different ones.
        between: names of the two sets.
        seed: seed of the forest.
        about: what the vectors describe.
    """
    of_row = np.concatenate(groups)
    is_second = np.arange(len(of_row)) >= len(groups[0])
    votes = held_out_votes(read, np.where(is_second, "second", "first"), of_row, seed, min_samples_leaf=5)
    found = clustered_auroc(votes.shares[:, 1], is_second[votes.rows], of_row[votes.rows])
    return _shift(about, between, found)


def category_shift(
    about: str, first: pd.DataFrame, second: pd.DataFrame, between: tuple[str, str], seed: int
) -> Shift | None:
    """Compare how often each value of a column occurs in two sets; None if one is too small or has too many values.

    The score of an image is how much more frequent its value is in the second set, counted on the other half of the
    groups.

    Args:
        about: the column.
        first: rows with `group` and the column.
        second: likewise.
        between: names of the two sets.
        seed: seed of the halves.
    """
    if not enough(_names(first["group"]), _names(second["group"])):
        return None
    held = [*first[about], *second[about]]
    values = sorted(set(held))
    if not 1 < len(values) <= MAX_VALUES:
        return None
    codes = pd.Categorical(held, categories=values).codes.astype(np.int64)
    is_second = np.arange(len(codes)) >= len(first)
    groups, of_image = np.unique(np.concatenate([_names(first["group"]), _names(second["group"])]), return_inverse=True)
    half = (np.random.default_rng(seed).permutation(len(groups)) % 2)[of_image]
    scores = np.empty(len(codes))
    for side in (0, 1):
        counted = half != side
        in_first = np.bincount(codes[counted & ~is_second], minlength=len(values)) + 1.0
        in_second = np.bincount(codes[counted & is_second], minlength=len(values)) + 1.0
        ratio = in_second / in_second.sum() / (in_first / in_first.sum())
        scores[~counted] = ratio[codes[~counted]]
    shares = [np.bincount(codes[rows], minlength=len(values)) / rows.sum() for rows in (~is_second, is_second)]
    changed = np.argsort(-np.abs(shares[1] - shares[0]), kind="stable")[:3].tolist()
    words = tuple(f"{values[place]!r} {shares[0][place]:.0%} against {shares[1][place]:.0%}" for place in changed)
    return _shift(about, between, clustered_auroc(scores, is_second, of_image), words)


def _names(groups: pd.Series) -> npt.NDArray[np.str_]:
    return groups.to_numpy(dtype=np.str_)


def _shift(about: str, between: tuple[str, str], found: Interval, differences: tuple[str, ...] = ()) -> Shift:
    return Shift(about, between, found.value, found.low, found.high, differences)


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
