"""Drift: whether incoming images still look, to the model, like the images it was tested on.

No labels are needed. Three distributions are compared with those of the model's held-out images, which it was not
trained on: predicted classes, confidences and out-of-distribution scores. Drift is claimed only if a test shows it
*and* it is large enough to matter: with many images every trifle is significant.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from graft.stats.ood import OOD_THRESHOLD

Floats = npt.NDArray[np.floating[Any]]

SIGNIFICANCE = 0.003
"""The three comparisons together raise a false alarm in about one batch of a hundred."""
LEAST_DISTANCE = 0.1
"""Of two distributions: the largest difference between the probabilities they give any event."""
LEAST_OOD = 0.05
"""Share of images beyond the out-of-distribution threshold."""


@dataclass(frozen=True)
class PredictionSample:
    """A model's predictions for n images."""

    answers: npt.NDArray[np.int64]
    """Class index (n,)."""
    confidences: Floats
    """(n,)"""
    ood_scores: Floats | None = None
    """Out-of-distribution scores, 1 at the threshold, of the images that have one (m,); None if the model has no
    detector or its evidence holds no scores."""


@dataclass(frozen=True)
class Shift:
    """One comparison."""

    distance: float
    """0 (alike) to 1 (nothing in common)."""
    p_value: float
    drifted: bool


@dataclass(frozen=True)
class Drift:
    """All comparisons; None where there is no reference."""

    images: int
    reference: int
    labels: Shift | None
    confidence: Shift | None
    features: Shift | None
    foreign: float | None
    """Share of images that are out-of-distribution."""
    drifted: bool

    def json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def detect_drift(
    reference: PredictionSample | None,
    now: PredictionSample,
    classes: int,
    false_alarms: float = 0.01,
) -> Drift:
    """Compare new images with the reference.

    Args:
        reference: held-out images; None if unknown: then only out-of-distribution images can be detected.
        now: at least one new image.
        classes: number of classes.
        false_alarms: share of in-distribution images that the threshold flags.
    """
    labels = label_shift(reference.answers, now.answers, classes) if reference else None
    confidence = distribution_shift(reference.confidences, now.confidences) if reference else None
    features, share = None, None
    if now.ood_scores is not None:
        share = float(np.mean(now.ood_scores > OOD_THRESHOLD))
        features = ood_shift(share, len(now.ood_scores), false_alarms)
        if reference and reference.ood_scores is not None:
            features = distribution_shift(reference.ood_scores, now.ood_scores)
    shifts = [shift for shift in (labels, confidence, features) if shift]
    size = len(reference.answers) if reference else 0
    return Drift(len(now.answers), size, labels, confidence, features, share, any(shift.drifted for shift in shifts))


def label_shift(reference: npt.NDArray[np.int64], now: npt.NDArray[np.int64], classes: int) -> Shift:
    """Compare how often each class is predicted: total variation distance, chi-squared test of homogeneity."""
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
    # The limiting distribution: SciPy's test for any size warns about small samples with ties.
    size = len(reference) * len(now) / len(values)
    return _shift(distance, float(stats.kstwobign.sf(np.sqrt(size) * distance)))


def ood_shift(share: float, images: int, false_alarms: float) -> Shift:
    """Test whether more images are out-of-distribution than the threshold's false alarms explain: a binomial test."""
    p_value = float(stats.binomtest(round(share * images), images, false_alarms, alternative="greater").pvalue)
    return Shift(share, p_value, p_value < SIGNIFICANCE and share > LEAST_OOD)


def cumulative(values: Floats, points: int = 101) -> tuple[Sequence[float], Sequence[float]]:
    """Return the quantiles of a sample and the share of it below each, for a plot."""
    shares = np.linspace(0, 1, points)
    return np.quantile(values, shares).tolist(), shares.tolist()


def _shift(distance: float, p_value: float) -> Shift:
    return Shift(distance, p_value, p_value < SIGNIFICANCE and distance > LEAST_DISTANCE)
