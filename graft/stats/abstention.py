"""When a model should abstain: prediction sets, out-of-distribution scores, and the rule that combines them.

The rule is fitted on training and validation images and saved with the model. Evaluation and serving apply the same
one. NumPy alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from graft.core.atomic import replacing
from graft.core.boundary import readable
from graft.core.errors import ModelError
from graft.core.row_blocks import Rows
from graft.core.tensors import read_arrays
from graft.stats.conformal import Sets, fit_quantile, is_ambiguous, prediction_sets
from graft.stats.metrics import Floats, Targets, Values
from graft.stats.ood import OOD_THRESHOLD, OodDetector, fit_ood

ABSTENTION_FILE = "trust.safetensors"
COVERAGE = 0.9
FALSE_ALARMS = 0.01


@dataclass(frozen=True)
class AbstentionDecision:
    """Prediction sets, out-of-distribution scores and whether to abstain, for n images."""

    sets: Sets
    """Which classes are plausible, bool (n, C)."""
    ood: Values
    """Out-of-distribution score of each image (n,): 1 is the threshold."""
    out_of_distribution: npt.NDArray[np.bool_]
    """Whether the score is above the threshold (n,)."""
    abstain: npt.NDArray[np.bool_]
    """Whether to give no answer: the image is out-of-distribution, or not exactly one class is plausible (n,)."""


@dataclass(frozen=True)
class Abstention:
    """The fitted rule for when to abstain."""

    coverage: float
    """How often a prediction set contains the right class."""
    quantile: float
    """See `conformal.fit_quantile`."""
    detector: OodDetector

    def decide(self, probabilities: Floats, features: Floats) -> AbstentionDecision:
        """Apply the rule to calibrated probabilities (n, C) and the features (n, d) that the head reads."""
        return self.decide_from_scores(probabilities, self.detector.scores(features))

    def decide_from_scores(self, probabilities: Floats, scores: Values) -> AbstentionDecision:
        """Apply the rule to calibrated probabilities (n, C) and out-of-distribution scores (n,), 1 at the threshold."""
        sets = prediction_sets(probabilities, self.quantile)
        out_of_distribution = np.asarray(scores > OOD_THRESHOLD, dtype=np.bool_)
        return AbstentionDecision(sets, scores, out_of_distribution, is_ambiguous(sets) | out_of_distribution)

    def save(self, folder: Path) -> None:
        """Write `trust.safetensors` into `folder`."""
        arrays = {**self.detector.arrays(), "conformal": np.array([self.coverage, self.quantile], dtype=np.float64)}
        with replacing(folder / ABSTENTION_FILE) as temporary:
            temporary.write_bytes(safetensors.numpy.save({name: np.ascontiguousarray(a) for name, a in arrays.items()}))

    @classmethod
    def load(cls, folder: Path) -> "Abstention":
        """Read what `save` wrote.

        Raises:
            ModelError: if the file is missing, cannot be read, or has impossible numbers.
        """
        path = Path(folder) / ABSTENTION_FILE
        if not path.is_file():
            raise ModelError(f"{path}: no such file; train the model again to get prediction sets")
        arrays: Mapping[str, npt.NDArray[np.float32]] = read_arrays(path, "conformal")
        with readable(path, "train the model again", ModelError):
            coverage, quantile = (float(value) for value in arrays["conformal"])
            detector = OodDetector.from_arrays(arrays)
        if not 0 < coverage < 1 or not np.isfinite(quantile):
            raise ModelError(
                f"{path}: coverage {coverage} and quantile {quantile} are impossible; train the model again"
            )
        return cls(coverage, quantile, detector)


def fit_abstention(
    train_features: Floats,
    train_targets: Targets,
    val_features: Floats | Rows,
    val_probabilities: Floats,
    val_targets: Targets,
    *,
    coverage: float = COVERAGE,
    false_alarms: float = FALSE_ALARMS,
) -> Abstention | None:
    """Fit the detector on training features and both thresholds on validation images.

    Returns:
        None if there are too few validation images to guarantee the coverage (0.9 needs 9): a rule that always
        abstains helps no one.

    Args:
        train_features: the head's inputs for training images (n, d).
        train_targets: int64 (n,).
        val_features: the head's inputs for validation images (m, d); read in blocks.
        val_probabilities: calibrated, as they will be served (m, C).
        val_targets: int64 (m,).
        coverage: of the prediction sets.
        false_alarms: share of validation images that may be flagged as out-of-distribution.
    """
    detector = fit_ood(train_features, train_targets, val_probabilities.shape[1])
    return calibrate_abstention(
        detector,
        detector.distances(val_features),
        val_probabilities,
        val_targets,
        coverage=coverage,
        false_alarms=false_alarms,
    )


def calibrate_abstention(
    detector: OodDetector,
    val_distances: Values,
    val_probabilities: Floats,
    val_targets: Targets,
    *,
    coverage: float = COVERAGE,
    false_alarms: float = FALSE_ALARMS,
) -> Abstention | None:
    """Fit both thresholds on validation images, given their distances (m,) by the detector; see `fit_abstention`."""
    if (len(val_targets) + 1) * (1 - coverage) < 1 - 1e-9:
        return None
    quantile = fit_quantile(val_probabilities, val_targets, coverage)
    return Abstention(coverage, quantile, detector.with_threshold_at(val_distances, false_alarms))
