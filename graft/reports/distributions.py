"""Figures of how size, brightness, detail and colour are distributed in each split, for the data page."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.data.records import SPLITS
from graft.reports.svg_charts import Series, line_chart

BINS = 32


@dataclass(frozen=True, slots=True)
class Distribution:
    """One figure with its title and description."""

    title: str
    description: str
    figure: str
    """An `<svg>` element."""


_STATISTICS = (
    ("short_side", "Size", "Shorter side in pixels.", "pixels"),
    ("aspect", "Shape", "Longer over shorter side: 1 is square.", "longer / shorter side"),
    ("brightness", "Brightness", "Mean luminance, from black to white.", "luminance"),
    ("contrast", "Contrast", "Spread of luminance within a picture.", "standard deviation"),
    (
        "sharpness",
        "Sharpness",
        "Strength of edges relative to contrast; blurred pictures are on the left.",
        "edges / contrast",
    ),
    ("saturation", "Colour", "Mean saturation; grey pictures are on the left.", "saturation"),
)


def distributions(kept: pd.DataFrame) -> list[Distribution]:
    """Return a figure for each statistic that is not constant.

    Args:
        kept: the inventory's rows that are kept, with `split` and the statistics.
    """
    splits = [split for split in SPLITS if (kept["split"] == split).sum() > 1]
    return [
        Distribution(title, description, _figure(kept, column, title, unit, splits))
        for column, title, description, unit in _STATISTICS
        if len(kept) > 1 and kept[column].nunique() > 1
    ]


def _figure(kept: pd.DataFrame, column: str, title: str, unit: str, splits: Sequence[str]) -> str:
    values = kept[column].to_numpy(dtype=np.float64)
    # One huge picture among small ones would squeeze all others into the first bin.
    low, high = np.percentile(values, [0.5, 99.5])
    if high <= low:
        low, high = values.min(), values.max()
    edges = np.linspace(low, high, BINS + 1)
    centres = ((edges[1:] + edges[:-1]) / 2).tolist()
    series = []
    for split in splits:
        chosen = np.clip(kept.loc[kept["split"] == split, column].to_numpy(dtype=np.float64), low, high)
        share = np.histogram(chosen, edges)[0] / len(chosen)
        series.append(Series(split, centres, _smooth(share).tolist()))
    top = max((max(one.y) for one in series), default=1.0)
    return line_chart(
        series, title=title, x_label=unit, y_label="share of the images", y_range=(0.0, 1.08 * top), percent=True
    )


def _smooth(share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Average neighbouring bins, so that the curves of small sets are not jagged."""
    padded = np.pad(share, 1, mode="edge")
    return np.asarray(padded[:-2] * 0.25 + padded[1:-1] * 0.5 + padded[2:] * 0.25)
