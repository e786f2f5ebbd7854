"""Whether the images that come in now still look, to the model, like those it was tested on.

No label is needed. Three things are compared with the model's held-out images, which it was not trained on: how often
each class is answered, how sure the answers are, and how foreign the images' features are. Drift is claimed only if a
test shows it *and* it is large enough to matter: with many images every trifle is significant.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.floating[Any]]

SIGNIFICANCE = 0.003
"""Three comparisons together raise a false alarm in about one batch of a hundred."""
LEAST_DISTANCE = 0.1
"""Of two distributions: the largest difference of any probability they give."""
LEAST_FOREIGN = 0.05
"""Part of the images beyond the threshold of foreignness."""


@dataclass(frozen=True)
class Seen:
    """What a model said about images."""

    answers: npt.NDArray[np.int64]
    """Class index (n,)."""
    confidences: Floats
    """(n,)"""
    foreignness: Floats | None = None
    """Scores (n,); None if the model cannot tell."""


@dataclass(frozen=True)
class Shift:
    """One comparison."""

    distance: float
    """0 (alike) to 1 (nothing in common)."""
    p_value: float
    drifted: bool


@dataclass(frozen=True)
class Drift:
    """What was compared; None where there is nothing to compare with."""

    images: int
    reference: int
    labels: Shift | None
    confidence: Shift | None
    features: Shift | None
    foreign: float | None
    """Part of the images that are foreign to the model."""
    drifted: bool

    def json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def compare_to(
    reference: Seen | None, now: Seen, classes: int, threshold: float | None = None, false_alarms: float = 0.01
) -> Drift:
    """Compare images of now with the reference.

    Args:
        reference: held-out images; None if they are not known: then only foreign images can be noticed.
        now: at least one image.
        classes: number of classes.
        threshold: from where on an image is foreign.
        false_alarms: part of images like the training images that the threshold calls foreign.
    """
    labels = label_shift(reference.answers, now.answers, classes) if reference else None
    confidence = distribution_shift(reference.confidences, now.confidences) if reference else None
    features, foreign = None, None
    if now.foreignness is not None and threshold is not None:
        foreign = float(np.mean(now.foreignness > threshold))
        features = foreign_shift(foreign, len(now.foreignness), false_alarms)
        if reference and reference.foreignness is not None:
            features = distribution_shift(reference.foreignness, now.foreignness)
    shifts = [shift for shift in (labels, confidence, features) if shift]
    size = len(reference.answers) if reference else 0
    return Drift(len(now.answers), size, labels, confidence, features, foreign, any(shift.drifted for shift in shifts))


def label_shift(reference: npt.NDArray[np.int64], now: npt.NDArray[np.int64], classes: int) -> Shift:
    """Compare how often each class is answered: total variation distance, chi-squared test of homogeneity."""
    counts = np.stack([np.bincount(answers, minlength=classes) for answers in (reference, now)])
    counts = counts[:, counts.sum(axis=0) > 0]
    shares = counts / counts.sum(axis=1, keepdims=True)
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    p_value = float(stats.chi2_contingency(counts).pvalue) if counts.shape[1] > 1 else 1.0
    return _shift(distance, p_value)


def distribution_shift(reference: Floats, now: Floats) -> Shift:
    """Compare two samples of a number: Kolmogorov and Smirnov's distance and test."""
    values = np.concatenate([reference, now])
    below = [np.searchsorted(np.sort(sample), values, side="right") / len(sample) for sample in (reference, now)]
    distance = float(np.abs(below[0] - below[1]).max())
    # The limiting distribution: SciPy's test for any size warns of small samples with ties.
    size = len(reference) * len(now) / len(values)
    return _shift(distance, float(stats.kstwobign.sf(np.sqrt(size) * distance)))


def foreign_shift(foreign: float, images: int, false_alarms: float) -> Shift:
    """Tell whether more images are foreign than the threshold's false alarms explain: a binomial test."""
    p_value = float(stats.binomtest(round(foreign * images), images, false_alarms, alternative="greater").pvalue)
    return Shift(foreign, p_value, p_value < SIGNIFICANCE and foreign > LEAST_FOREIGN)


def cumulative(values: Floats, points: int = 101) -> tuple[Sequence[float], Sequence[float]]:
    """Return the quantiles of a sample and which part of it lies below each, to draw it."""
    shares = np.linspace(0, 1, points)
    return np.quantile(values, shares).tolist(), shares.tolist()


def _shift(distance: float, p_value: float) -> Shift:
    return Shift(distance, p_value, p_value < SIGNIFICANCE and distance > LEAST_DISTANCE)
