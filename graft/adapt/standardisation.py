"""Standardisation per domain: the target's features get the mean and spread of the source's, feature by feature.

Where the classes are not equally frequent in both domains, the source counts as if it had the target's shares: else the
difference in frequency would be taken for one in appearance.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graft.heads.class_moments import ClassMoments
from graft.heads.lbfgs import floor_spread
from graft.heads.protocols import Floats

Features = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Match:
    """An affine map of features (n, D) from the target's mean and spread to the source's."""

    target_mean: Floats
    target_spread: Floats
    source_mean: Floats
    source_spread: Floats
    """(D,), each."""

    @classmethod
    def of(cls, target: Features, source: ClassMoments, shares: Floats | None, widths: tuple[int, ...]) -> "Match":
        """Return the map for features (n, D) of the target.

        Args:
            target: features of its images.
            source: moments of the same features in the source.
            shares: of the classes in the target, (C,); None: as in the source.
            widths: number of features of each of the head's groups.
        """
        mean, variance = source.mixed(shares)
        target_mean, target_spread = target.mean(axis=0, dtype=np.float64), target.std(axis=0, dtype=np.float64)
        return cls(target_mean, floor_spread(target_spread, widths), mean, floor_spread(np.sqrt(variance), widths))

    def apply(self, features: Features) -> Floats:
        """Return the features as the source's head expects them."""
        standardised = (features - self.target_mean) / self.target_spread
        return np.asarray(standardised * self.source_spread + self.source_mean, dtype=np.float64)

    def undone(self, mean: Floats, scale: Floats) -> tuple[Floats, Floats]:
        """Return mean and scale (D,) that do to raw features what the given ones do to matched features."""
        ratio = self.target_spread / self.source_spread
        return self.target_mean + (mean - self.source_mean) * ratio, scale * ratio
