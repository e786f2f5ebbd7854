"""Wide images, of more than 8 bits or of floats: one range of values, from black to white, for all images of a set.

A range per file would make a dim picture and a bright one look the same. So the range is found once for a set (by
`shared_range`), kept in its transform, and used for every image from then on.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

ValueRange = tuple[float, float]
"""The values that become 0 (black) and 255 (white)."""
Samples = npt.NDArray[Any]

_WHITE_OF_FLOATS = (1.0, 255.0, 1023.0, 4095.0, 16383.0, 65535.0)
_BITS = (8, 10, 12, 14, 16, 24, 31, 32)
"""Of cameras, scanners and types: white of integers is the largest value of as many bits as a set needs."""


@dataclass(frozen=True, slots=True)
class Extremes:
    """The values of one picture."""

    least: float
    greatest: float
    """Of the finite values; 0 if there are none."""
    not_finite: int
    """Number of values that are NaN or infinite."""
    floats: bool


def extremes(samples: Samples) -> Extremes:
    """Return the extremes of a picture's samples, of any shape."""
    floats = bool(np.issubdtype(samples.dtype, np.floating))
    finite = samples[np.isfinite(samples)] if floats else samples
    least, greatest = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return Extremes(least, greatest, samples.size - finite.size, floats)


def shared_range(found: Iterable[Extremes]) -> ValueRange:
    """Return the range for a set of pictures: from 0, or the least value if that is negative, to the usual white."""
    every = list(found)
    least, greatest = min(one.least for one in every), max(one.greatest for one in every)
    usual = _WHITE_OF_FLOATS if any(one.floats for one in every) else tuple(2.0**bits - 1 for bits in _BITS)
    low = min(0.0, least)
    high = next((white for white in usual if greatest <= white), greatest)
    return low, high if high > low else low + 1.0


def eight_bits(samples: Samples, values: ValueRange | None = None) -> npt.NDArray[np.uint8]:
    """Scale samples of any shape to 0..255; what lies outside the range is black or white, NaN is black.

    Args:
        samples: wide integers or floats.
        values: of the set; None: that of the type, 1.0 for floats.

    Raises:
        ValueError: if no range is given and the type has none.
    """
    low, high = values or _range_of_type(samples)
    with np.errstate(invalid="ignore"):
        wide = (samples.astype(np.float64) - low) * (255.0 / (high - low))
    return np.rint(np.clip(np.nan_to_num(wide, nan=0.0, posinf=255.0, neginf=0.0), 0.0, 255.0)).astype(np.uint8)


def _range_of_type(samples: Samples) -> ValueRange:
    if samples.dtype.kind in "iu" and samples.dtype.itemsize <= 2:
        return 0.0, float(np.iinfo(samples.dtype).max)
    found = extremes(samples)
    if samples.dtype.kind == "f" and found.least >= 0.0 and found.greatest <= 1.0:
        return 0.0, 1.0
    raise ValueError(
        f"samples of {8 * samples.dtype.itemsize} bits from {found.least:g} to {found.greatest:g}, and no range of "
        "values is known: the images that it belongs to have 8 bits"
    )
