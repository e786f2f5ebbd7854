"""Accuracy on slices of the test images: by camera, by domain, by size, by any column of the table."""

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

    Numbers are cut into quarters. Columns with one value or more than 50 are left out, and so are slices of fewer than
    5 images.
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


def _columns(table: pd.DataFrame, chosen: Sequence[str]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    own = [name for name in table.columns if name not in TABLE_COLUMNS]
    for name in chosen or ("domain", "format", *own):
        if name in table:
            yield name, _named(table[name])
    if not chosen and {"width", "height"} <= set(table.columns):
        yield "shorter side", _named(table[["width", "height"]].min(axis=1), unit=" px")


def _named(values: pd.Series, unit: str = "") -> npt.NDArray[Any]:
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values) or values.nunique() <= BUCKETS:
        return values.fillna("").astype(str).to_numpy(dtype=str)
    edges = np.unique(np.nanquantile(values.to_numpy(dtype=float), np.linspace(0, 1, BUCKETS + 1)))
    bucket = np.clip(np.searchsorted(edges, values.to_numpy(dtype=float), side="right") - 1, 0, len(edges) - 2)
    names = [f"{edges[i]:g} to {edges[i + 1]:g}{unit}" for i in range(len(edges) - 1)]
    return np.where(values.isna(), "", np.asarray(names)[bucket])


def _fisher(right: npt.NDArray[np.bool_], held: npt.NDArray[np.bool_]) -> float:
    """Return the probability that a random sample of this size has at most this many right."""
    return float(hypergeom.cdf(int(right[held].sum()), len(right), int(right.sum()), int(held.sum())))


def _holm(p_values: Sequence[float]) -> list[float]:
    corrected, running = [0.0] * len(p_values), 0.0
    for place, index in enumerate(np.argsort(p_values, kind="stable")):
        running = max(running, min(1.0, p_values[index] * (len(p_values) - place)))
        corrected[int(index)] = running
    return corrected
