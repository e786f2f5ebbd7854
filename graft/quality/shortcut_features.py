"""Shortcut features: can size, format, compression or a border alone predict the label?

If so, a model may learn that instead of what the picture shows, and fail on data from other sources (Geirhos et al.,
"Shortcut learning in deep neural networks", Nature Machine Intelligence 2020).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from graft.quality.two_sample_forest import held_out_votes
from graft.stats.confidence_intervals import effective_size

Z95 = 1.96
MIN_IMAGES = 40
# With fewer rows of a class, or rows of fewer groups, its recall is meaningless.
MIN_PER_CLASS = 5
PROPERTIES = {
    "width": "width",
    "height": "height",
    "aspect": "aspect",
    "format": "format",
    "mode": "mode",
    "quantisation": "compression",
    "unexplained_bytes": "file size for the content",
    "frame": "uniform border",
}
"""Columns that do not depend on the picture's content, and their names in messages."""
_CONTENT = ("contrast", "sharpness", "entropy", "brightness", "saturation")


@dataclass(frozen=True, slots=True)
class Shortcut:
    """How well the file properties predict the label."""

    accuracy: float
    """Balanced accuracy of a random forest, on images of groups that its trees have not seen."""
    low: float
    high: float
    """95 % interval."""
    chance: float
    """Balanced accuracy of guessing."""
    properties: tuple[str, ...]
    """Names of the properties it uses, most important first."""

    @property
    def above_chance(self) -> float:
        """Lower bound on a scale where guessing is 0 and perfect is 1."""
        return (self.low - self.chance) / (1 - self.chance)


def find_shortcut(images: pd.DataFrame, seed: int) -> Shortcut | None:
    """Search the rows of an inventory for a shortcut; None if there are too few.

    Args:
        images: with `label`, `group` and the inventory's columns.
        seed: of the forest.
    """
    counts = images.groupby("label")["group"].nunique()
    images = images[images["label"].isin(counts.index[counts >= MIN_PER_CLASS])]
    classes = images["label"].nunique()
    if len(images) < MIN_IMAGES or classes < 2:
        return None
    frame = pd.DataFrame({name: _numbers(images, name) for name in PROPERTIES})
    varying = frame.loc[:, frame.nunique() > 1]
    if varying.empty:
        return Shortcut(1 / classes, 1 / classes, 1 / classes, 1 / classes, ())
    labels = images["label"].to_numpy(dtype=np.str_)
    groups = images["group"].to_numpy(dtype=np.str_)
    votes = held_out_votes(varying.to_numpy(dtype=np.float64), labels, groups, seed)
    truth, groups = labels[votes.rows], groups[votes.rows]
    right = votes.classes[votes.shares.argmax(axis=1)] == truth
    of_class = [truth == name for name in votes.classes]
    recalls = np.array([right[rows].mean() for rows in of_class])
    sizes = np.array([effective_size(right[rows], groups[rows]) for rows in of_class])
    accuracy = float(recalls.mean())
    # Agresti and Coull's correction: an interval of width above 0 even if every prediction is correct.
    corrected = (recalls * sizes + 2) / (sizes + 4)
    error = float(np.sqrt(np.sum(corrected * (1 - corrected) / (sizes + 4)))) / len(sizes)
    order = np.argsort(-votes.importances)
    names = [PROPERTIES[varying.columns[place]] for place in order if votes.importances[place] > 0.15]
    low, high = max(0.0, accuracy - Z95 * error), min(1.0, accuracy + Z95 * error)
    return Shortcut(accuracy, low, high, 1 / classes, tuple(names))


def _numbers(images: pd.DataFrame, name: str) -> pd.Series:
    if name == "unexplained_bytes":
        return _unexplained(images)
    if name in ("format", "mode"):
        return pd.Series(pd.Categorical(images[name]).codes, index=images.index, dtype=float)
    return images[name].astype(float)


def _unexplained(images: pd.DataFrame) -> pd.Series:
    """Return the residual of the log file size, given the image's size, detail and compression.

    The file size itself depends on the content: a daisy in a meadow takes more bytes than one against the sky.
    """
    codes = pd.get_dummies(images["format"], dtype=float)
    area = np.log(images["width"].to_numpy(dtype=np.float64) * images["height"].to_numpy(dtype=np.float64))
    coarse = np.log1p(images["quantisation"].to_numpy(dtype=np.float64))
    inputs = np.column_stack([area, coarse, *(images[name].to_numpy(dtype=np.float64) for name in _CONTENT)])
    design = np.column_stack([inputs, inputs**2, codes])
    target = np.log(images["bytes"].to_numpy(dtype=np.float64))
    fit, *_ = np.linalg.lstsq(design, target, rcond=None)
    return pd.Series(target - design @ fit, index=images.index).round(3)
