"""Can the label be told without looking at the picture, from size, format, compression or a frame alone?

If so, a model may learn that instead of what the picture shows, and fail on data from elsewhere (Geirhos et al.,
"Shortcut learning in deep neural networks", Nature Machine Intelligence 2020).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from graft.quality.two_sample_forest import out_of_bag_votes

Z95 = 1.96
MIN_IMAGES = 40
# Rows of a class below which its recall says nothing.
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
"""Columns that tell nothing about the picture's content, and what they are called."""
_CONTENT = ("contrast", "sharpness", "entropy", "brightness", "saturation")


@dataclass(frozen=True, slots=True)
class Shortcut:
    """How well the properties give the label away."""

    accuracy: float
    """Balanced accuracy of a forest on images its trees have not seen."""
    low: float
    high: float
    """95 % interval."""
    chance: float
    """Of guessing."""
    properties: tuple[str, ...]
    """What it goes by, most telling first."""

    @property
    def above_chance(self) -> float:
        """Lower bound on a scale where guessing is 0 and always right is 1."""
        return (self.low - self.chance) / (1 - self.chance)


def find_shortcut(images: pd.DataFrame, seed: int) -> Shortcut | None:
    """Probe the rows of an inventory; None if they are too few.

    Args:
        images: with `label` and the inventory's columns.
        seed: of the forest.
    """
    counts = images["label"].value_counts()
    images = images[images["label"].isin(counts.index[counts >= MIN_PER_CLASS])]
    classes = images["label"].nunique()
    if len(images) < MIN_IMAGES or classes < 2:
        return None
    frame = pd.DataFrame({name: _numbers(images, name) for name in PROPERTIES})
    told = frame.loc[:, frame.nunique() > 1]
    if told.empty:
        return Shortcut(1 / classes, 1 / classes, 1 / classes, 1 / classes, ())
    labels = images["label"].to_numpy(dtype=np.str_)
    votes = out_of_bag_votes(told.to_numpy(dtype=np.float64), labels, seed)
    truth = labels[votes.rows]
    guesses = votes.classes[votes.shares.argmax(axis=1)]
    recalls = np.array([np.mean(guesses[truth == name] == name) for name in votes.classes])
    sizes = np.array([np.sum(truth == name) for name in votes.classes])
    accuracy = float(recalls.mean())
    # Agresti and Coull's correction keeps the interval open where every guess is right.
    corrected = (recalls * sizes + 2) / (sizes + 4)
    error = float(np.sqrt(np.sum(corrected * (1 - corrected) / (sizes + 4)))) / len(sizes)
    order = np.argsort(-votes.importances)
    names = [PROPERTIES[told.columns[place]] for place in order if votes.importances[place] > 0.15]
    low, high = max(0.0, accuracy - Z95 * error), min(1.0, accuracy + Z95 * error)
    return Shortcut(accuracy, low, high, 1 / classes, tuple(names))


def _numbers(images: pd.DataFrame, name: str) -> pd.Series:
    if name == "unexplained_bytes":
        return _unexplained(images)
    if name in ("format", "mode"):
        return pd.Series(pd.Categorical(images[name]).codes, index=images.index, dtype=float)
    return images[name].astype(float)


def _unexplained(images: pd.DataFrame) -> pd.Series:
    """Return how far the file size is from what a picture of this size, detail and compression needs.

    The size as such follows from the content: a daisy before a meadow takes more bytes than one before the sky.
    """
    codes = pd.get_dummies(images["format"], dtype=float)
    area = np.log(images["width"].to_numpy(dtype=np.float64) * images["height"].to_numpy(dtype=np.float64))
    coarse = np.log1p(images["quantisation"].to_numpy(dtype=np.float64))
    inputs = np.column_stack([area, coarse, *(images[name].to_numpy(dtype=np.float64) for name in _CONTENT)])
    design = np.column_stack([inputs, inputs**2, codes])
    target = np.log(images["bytes"].to_numpy(dtype=np.float64))
    fit, *_ = np.linalg.lstsq(design, target, rcond=None)
    return pd.Series(target - design @ fit, index=images.index).round(3)
