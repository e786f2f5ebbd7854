"""Accuracy on slices of the test images: by camera, by domain, by size, by any column of the table."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import hypergeom

from graft.data.dataset import TABLE_COLUMNS
from graft.stats.confidence_intervals import Interval, proportion

FEWEST_IMAGES = 5
MOST_VALUES = 50
BUCKETS = 4
_NUMBER = r"[+-]?(0|[1-9]\d*)?([.,]\d+)?(?<=\d)([eE][+-]?\d+)?"
_THOUSANDS = r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?"
"""1,000 and 12,500.5 among 999: commas that are no decimal ones."""
_UNKNOWN = ("", "-", "?", ".", "na", "n/a", "nan", "none", "null", "unknown")
"""What stands for a missing number or day; as text of its own it is a value like any other."""
_DAY = r"(\d{4})[-/:.](\d{1,2})[-/:.]\d{1,2}(?:[T ].*)?|\d{1,2}\.(\d{1,2})\.(\d{4})(?: .*)?"
"""2024-01-31, 2024:01:31 12:00:00 (EXIF), 31.1.2024. (1/2/2024 has its month in one place or another.)"""


class Slice(NamedTuple):
    """The images that share one value of one column."""

    column: str
    value: str
    images: int
    correct: int
    accuracy: Interval
    p_value: float
    """Of an accuracy this low by chance (Fisher's exact test against the rest), Holm-corrected for all slices."""


def slices(
    table: pd.DataFrame, right: npt.NDArray[np.bool_], columns: Sequence[str] = (), confidence: float = 0.95
) -> list[Slice]:
    """Return every slice with its accuracy, the worst first.

    Args:
        table: one row per test image; `group` ties images together.
        right: whether each prediction is right (n,).
        columns: to slice by; none: the user's own columns, the domain, the file format and the size in pixels.
        confidence: of the intervals.

    A column is used as its values say, see `_named`. Columns with one value or more than 50 are left out (`unsliced`
    says which), and so are slices of fewer than 5 images.
    """
    groups = table["group"].to_numpy() if "group" in table else np.arange(len(table))
    found: list[Slice] = []
    for column, values in _columns(table, columns):
        names, of_image = np.unique(values, return_inverse=True)
        if not 2 <= len(names) <= MOST_VALUES:
            continue
        for number, name in enumerate(names):
            held = of_image == number
            if held.sum() >= FEWEST_IMAGES:
                accuracy = proportion(right[held], groups[held], confidence)
                found.append(
                    Slice(column, name, int(held.sum()), int(right[held].sum()), accuracy, _fisher(right, held))
                )
    corrected = _holm([one.p_value for one in found])
    found = [one._replace(p_value=p) for one, p in zip(found, corrected, strict=True)]
    return sorted(found, key=lambda one: (one.accuracy.value, -one.images, one.column, one.value))


def unsliced(table: pd.DataFrame, columns: Sequence[str] = ()) -> dict[str, str]:
    """Return why the columns that the user named, or the user's own ones, are not sliced by, as far as they are not."""
    asked = columns or [name for name in table.columns if name not in TABLE_COLUMNS]
    there = dict(_columns(table, asked))
    return {name: why for name in asked if (why := _why_not(there.get(name)))}


def _why_not(values: npt.NDArray[Any] | None) -> str:
    if values is None:
        return "there is no such column"
    counts = np.unique(values, return_counts=True)[1]
    if len(counts) < 2:
        return "all test images have the same value"
    if len(counts) > MOST_VALUES:
        return f"{len(counts):,} different values, more than {MOST_VALUES}"
    return "" if counts.max() >= FEWEST_IMAGES else f"no value has {FEWEST_IMAGES} test images"


def _columns(table: pd.DataFrame, chosen: Sequence[str]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    own = [name for name in table.columns if name not in TABLE_COLUMNS]
    for name in chosen or ("domain", "format", *own):
        if name in table:
            yield name, _named(table[name])
    if not chosen and {"width", "height"} <= set(table.columns):
        yield "shorter side", _named(table[["width", "height"]].min(axis=1), unit=" px")


def _named(values: pd.Series, unit: str = "") -> npt.NDArray[Any]:
    """Return the slice of each image: numbers by quarter, days by month or year, any other text as it is.

    A manifest's values are text. They are numbers or days if all that are known are, and no number begins with a
    needless zero, as codes do; numbers may be percentages.
    """
    if pd.api.types.is_bool_dtype(values):
        return values.fillna("").astype(str).to_numpy(dtype=str)
    if not pd.api.types.is_numeric_dtype(values):
        text = values.fillna("").astype(str).str.strip()
        known = ~text.str.casefold().isin(_UNKNOWN)
        held = text[known]
        if len(held) and held.str.fullmatch(_DAY).all():
            return _by_time(text)
        plain = _numbers(held)
        if plain is None:
            return values.fillna("").astype(str).to_numpy(dtype=str)
        values = plain.reindex(text.index)
    if values.nunique() <= BUCKETS:
        return np.array(["" if math.isnan(value) else f"{value:g}" for value in values.astype(float)])
    numbers = values.to_numpy(dtype=float)
    edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, BUCKETS + 1)))
    if len(edges) < 3:  # nearly all values are the same
        return np.array(["" if math.isnan(value) else f"{value:g}" for value in numbers])
    bucket = np.clip(np.searchsorted(edges, np.nan_to_num(numbers), side="right") - 1, 0, len(edges) - 2)
    names = [f"{edges[i]:g} to {edges[i + 1]:g}{unit}" for i in range(len(edges) - 1)]
    return np.where(np.isnan(numbers), "", np.asarray(names)[bucket])


def _numbers(held: pd.Series) -> pd.Series | None:
    """Return text as numbers; None if not all of it is."""
    if len(held) and held.str.endswith("%").all():
        held = held.str.removesuffix("%").str.rstrip()
    commas = held[held.str.contains(",", regex=False)]
    if len(commas) and commas.str.fullmatch(_THOUSANDS).all():
        held = held.str.replace(",", "")
    if not len(held) or not held.str.fullmatch(_NUMBER).all():
        return None
    return pd.to_numeric(held.str.replace(",", "."))


def _by_time(text: pd.Series) -> npt.NDArray[Any]:
    """Return the month of each day, or the year if there are too many months."""
    parts = text.str.extract(_DAY)
    year, month = parts[0].fillna(parts[3]).fillna(""), parts[1].fillna(parts[2]).fillna("")
    months = np.where(year == "", "", year + "-" + month.str.zfill(2))
    return np.asarray(months if len(np.unique(months)) <= MOST_VALUES else year, dtype=str)


def _fisher(right: npt.NDArray[np.bool_], held: npt.NDArray[np.bool_]) -> float:
    """Return the probability that a random sample of this size has at most this many right."""
    return float(hypergeom.cdf(int(right[held].sum()), len(right), int(right.sum()), int(held.sum())))


def _holm(p_values: Sequence[float]) -> list[float]:
    corrected, running = [0.0] * len(p_values), 0.0
    for place, index in enumerate(np.argsort(p_values, kind="stable")):
        running = max(running, min(1.0, p_values[index] * (len(p_values) - place)))
        corrected[int(index)] = running
    return corrected
