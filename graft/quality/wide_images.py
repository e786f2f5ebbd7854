"""Wide images of a set: the range of values that all of them share, and their statistics in that range."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.data.records import Record
from graft.imaging.value_range import Extremes, ValueRange, shared_range
from graft.params.validate_data import ValidateDataParams
from graft.quality.examination_cache import open_examination_cache
from graft.quality.image_statistics import Statistics, examine_all

_FEWEST, _FEW = 8, 0.05
"""With fewer images none is unusual; at most this share at either end is."""


def share_range(
    images: pd.DataFrame,
    signatures: npt.NDArray[np.uint8],
    records: Sequence[Record],
    params: ValidateDataParams,
    max_bytes: int,
) -> ValueRange | None:
    """Put all wide images of an inventory on one scale.

    Their statistics and signatures, which were of each image in its own range, are replaced.

    Args:
        images: the inventory, one row per record and then one per problem; changed in place.
        signatures: of every row; changed in place.
        records: of the first rows.
        params: `value_range` is taken if it is set.
        max_bytes: larger files are not read.

    Returns:
        The range; None if there are no wide images.
    """
    wide = images.index[images["greatest"].notna()].tolist()
    if not wide:
        return params.value_range
    columns = (images.loc[wide, name].tolist() for name in ("least", "greatest", "floats"))
    found = {
        row: Extremes(float(least), float(greatest), 0, bool(floats))
        for row, least, greatest, floats in zip(wide, *columns, strict=True)
    }
    values = params.value_range or shared_range(found.values())
    other = [row for row in wide if shared_range([found[row]]) != values]
    with open_examination_cache(params.max_pixels, params.channels, values) as known:
        asked = [records[row] for row in other]
        again = examine_all(asked, params.max_pixels, max_bytes, known, channels=params.channels, values=values)
        for row, one in zip(other, again, strict=True):
            if known is not None:
                known.add(one)
            if one.statistics is not None:
                _replace(images, signatures, row, one.statistics)
    return values


def stretching(images: pd.DataFrame) -> tuple[npt.NDArray[np.bool_], ValueRange]:
    """Return which few images stretch the range of all wide ones many times, and the range of the others.

    A hot pixel or a mark for missing values is enough: the pictures of all others become nearly black.
    """
    rows = np.zeros(len(images), dtype=np.bool_)
    wide = np.flatnonzero(images["greatest"].notna())
    if len(wide) < _FEWEST:
        return rows, (0.0, 1.0)
    least, greatest = (images[name].to_numpy(np.float64)[wide] for name in ("least", "greatest"))
    floats = images["floats"].to_numpy(np.bool_)[wide]
    found = [Extremes(low, high, 0, bool(of)) for low, high, of in zip(least, greatest, floats, strict=True)]
    few = max(1, round(_FEW * len(wide)))
    usual = (least >= np.sort(least)[few]) & (greatest <= np.sort(greatest)[-few - 1])
    low, high = shared_range(one for one, kept in zip(found, usual, strict=True) if kept or not usual.any())
    width = high - low
    outside = (least < low - width) | (greatest > high + width)
    if outside.sum() <= 2 * few:
        rows[wide[outside]] = True
    return rows, (low, high)


def _replace(images: pd.DataFrame, signatures: npt.NDArray[np.uint8], row: int, statistics: Statistics) -> None:
    signatures[row] = np.frombuffer(statistics.signature, np.uint8).reshape(signatures.shape[1:])
    for name, value in asdict(statistics).items():
        if name != "signature":
            images.at[row, name] = value
