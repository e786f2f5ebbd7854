"""Out-of-distribution detection: how unlike the training images an image is, by its features.

The score is the Mahalanobis distance to the nearest class mean (Lee et al., A Simple Unified Framework for Detecting
Out-of-Distribution Samples and Adversarial Attacks, NeurIPS 2018) under the covariance of probabilistic PCA (Tipping
and Bishop 1999): each leading direction has its own variance, all others share one. The full covariance cannot be
estimated from few images with many features, and this one is small enough to be saved with the model.

Features are first normalised to signed square roots of length one (Perronnin et al., Improving the Fisher Kernel, ECCV
2010; Mueller and Hein, Mahalanobis++, ICML 2025). A blank image activates few features, so it lies near the origin and
closer to every mean than most photos do. Measured on digits among ants and bees at 128 pixels: AUROC 0.70 without this
normalisation, 1.00 with it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graft.core.errors import ModelError
from graft.core.row_blocks import ArrayRows, Rows, fill_by_block
from graft.stats.metrics import Floats, Targets, Values

Array32 = npt.NDArray[np.float32]

DIRECTIONS = 64
OOD_THRESHOLD = 1.0
"""Of a score: images above it are out-of-distribution."""
SMALLEST_VARIANCE = 1e-9
ARRAYS = ("means", "directions", "scales", "threshold")


@dataclass(frozen=True)
class OodDetector:
    """Distances of features (n, d) to C classes, and the threshold beyond which an image is out-of-distribution."""

    means: Array32
    """(C, d)."""
    directions: Array32
    """(k, d), orthonormal."""
    scales: Array32
    """(k + 1,): standard deviation along each direction, and of the remaining ones."""
    threshold: float
    """Images with a score above it are out-of-distribution; infinite until `with_threshold`."""

    def distances(self, features: Floats | Rows) -> Values:
        """Return how far each image is from the training images (n,), per square root of the number of features.

        It is about 1 for the training images themselves and higher for others, more so if there were few of them.

        Args:
            features: (n, d); read in blocks.
        """
        rows = ArrayRows((features,)) if isinstance(features, np.ndarray) else features
        return fill_by_block(self._distances, rows, np.empty(rows.shape[0]))

    def scores(self, features: Floats | Rows) -> Values:
        """Return the out-of-distribution score of each image (n,): its distance in units of the threshold.

        This is the only number that leaves the model: above 1 an image is out-of-distribution, whatever the model.

        Args:
            features: (n, d); read in blocks.
        """
        return self.normalised(self.distances(features))

    def normalised(self, distances: Values) -> Values:
        """Return the scores (n,) of distances (n,)."""
        return np.asarray(distances / self.threshold, dtype=np.float64)

    def _distances(self, features: Floats) -> Values:
        features, means = _normalised(features), self.means.astype(np.float64)
        directions, scales = self.directions.astype(np.float64), self.scales.astype(np.float64)
        along, to = features @ directions.T, means @ directions.T
        rest = np.maximum(_squared_distances(features, means) - _squared_distances(along, to), 0.0)
        scaled = _squared_distances(along / scales[:-1], to / scales[:-1]) + rest / scales[-1] ** 2
        return np.asarray(np.sqrt(scaled.min(axis=1) / means.shape[1]), dtype=np.float64)

    def is_out_of_distribution(self, features: Floats) -> npt.NDArray[np.bool_]:
        """Return which images (n,) score above the threshold."""
        return np.asarray(self.distances(features) > self.threshold, dtype=np.bool_)

    def with_threshold(self, features: Floats | Rows, false_alarms: float = 0.01) -> "OodDetector":
        """Return the detector with its threshold set so that it flags this share of the validation images."""
        return self.with_threshold_at(self.distances(features), false_alarms)

    def with_threshold_at(self, distances: Values, false_alarms: float = 0.01) -> "OodDetector":
        """Do the same as `with_threshold`, given the validation images' distances (n,).

        With fewer than 1 / false_alarms images the threshold is their largest score plus their standard deviation: a
        few images do not show how far the tail reaches.
        """
        distances = np.sort(distances)
        rank = math.ceil((len(distances) + 1) * (1 - false_alarms) - 1e-9)
        if rank <= len(distances):
            threshold = float(distances[rank - 1])
        elif len(distances):
            threshold = float(distances[-1] + distances.std())
        else:
            threshold = math.inf
        return OodDetector(self.means, self.directions, self.scales, threshold)

    def arrays(self) -> dict[str, Array32]:
        """Return the detector's state as plain arrays."""
        return {
            "means": self.means,
            "directions": self.directions,
            "scales": self.scales,
            "threshold": np.array([self.threshold], dtype=np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array32]) -> "OodDetector":
        """Rebuild the detector from what `arrays` returned.

        Raises:
            ModelError: if one is missing.
        """
        missing = [name for name in ARRAYS if name not in arrays]
        if missing:
            raise ModelError(f"out-of-distribution detector without {', '.join(missing)}; train the model again")
        return cls(arrays["means"], arrays["directions"], arrays["scales"], float(arrays["threshold"][0]))


def fit_ood(features: Floats, targets: Targets, classes: int) -> OodDetector:
    """Fit class means and the shared covariance on training features (n, d); the threshold is not set yet.

    Classes without images get no mean.
    """
    features = _normalised(features)
    present = [label for label in range(classes) if (targets == label).any()]
    means = np.stack([features[targets == label].mean(axis=0) for label in present])
    centred = features - means[np.searchsorted(present, targets)]
    size, width = centred.shape
    freedom = max(size - len(present), 1)
    kept = min(DIRECTIONS, max(freedom // 2, 1), width - 1) if width > 1 else 0
    variances, directions = _principal(centred, kept)
    rest = max((centred**2).sum() / freedom - variances.sum() / freedom, 0.0) / max(width - kept, 1)
    scales = np.sqrt(np.maximum(np.append(variances / freedom, rest), SMALLEST_VARIANCE))
    return OodDetector(
        means.astype(np.float32), directions.astype(np.float32), scales.astype(np.float32), threshold=math.inf
    )


def _principal(centred: Values, kept: int) -> tuple[Values, Values]:
    """Return the largest sums of squares (k,) and their directions (k, d), from the smaller Gram matrix."""
    size, width = centred.shape
    kept = min(kept, size)
    if width <= size:
        values, vectors = np.linalg.eigh(centred.T @ centred)
        return np.maximum(values[::-1][:kept], 0.0), vectors[:, ::-1][:, :kept].T
    values, vectors = np.linalg.eigh(centred @ centred.T)
    largest = np.maximum(values[::-1][:kept], 1e-30)
    return largest, (vectors[:, ::-1][:, :kept] / np.sqrt(largest)).T @ centred


def _normalised(features: Floats) -> Values:
    rooted = np.sign(features) * np.sqrt(np.abs(np.asarray(features, dtype=np.float64)))
    length = np.linalg.norm(rooted, axis=1, keepdims=True)
    return np.asarray(rooted / np.where(length > 0, length, 1.0), dtype=np.float64)


def _squared_distances(first: Values, second: Values) -> Values:
    """Return the squared distance of every row of `first` (n, d) to every row of `second` (m, d), (n, m)."""
    lengths = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)
    return np.asarray(np.maximum(lengths - 2 * first @ second.T, 0.0), dtype=np.float64)
