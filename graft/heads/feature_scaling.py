"""What heads that are not linear have in common: which images they learn from, and how features are scaled."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from graft.heads.linear_probe import standardisation
from graft.heads.protocols import Floats, Ints
from graft.stats.subsampling import evenly_spaced

MOST_IMAGES = 20_000
"""So many are learnt from, evenly spaced, where there are more: neither memory nor time grows beyond."""


def tap_scale(features: npt.NDArray[np.floating], widths: Sequence[int] | None = None) -> tuple[Floats, Floats]:
    """Return mean and scale (d,) of every feature: standard deviations, and every tap of the same weight.

    Args:
        features: (n, d).
        widths: number of features of each tap, where several are concatenated.
    """
    mean, spread = standardisation(features, widths)
    if not widths:
        return mean, spread
    return mean, spread * np.sqrt(np.repeat(widths, widths) * len(widths) / sum(widths))


def some(images: int) -> Ints:
    """Return the positions of the images that are learnt from."""
    return evenly_spaced(images, MOST_IMAGES)
