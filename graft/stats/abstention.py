"""When to believe an answer: the prediction set, the foreignness of the image, and whether to answer at all.

Fitted on training and validation images, kept beside the model, and the same in evaluation and serving. NumPy alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from graft.core.atomic import replacing
from graft.core.errors import ModelError
from graft.core.row_blocks import Rows
from graft.stats.conformal import Sets, abstains, fit_quantile, prediction_sets
from graft.stats.metrics import Floats, Targets, Values
from graft.stats.ood import OodDetector, fit_ood

TRUST_FILE = "trust.safetensors"
COVERAGE = 0.9
FALSE_ALARMS = 0.01


@dataclass(frozen=True)
class Judgement:
    """What is added to the answers for n images."""

    sets: Sets
    """Which classes are plausible, bool (n, C)."""
    ood: Values
    """How foreign each image is (n,): 1 is the threshold."""
    foreign: npt.NDArray[np.bool_]
    """Whether it is beyond the threshold (n,)."""
    abstain: npt.NDArray[np.bool_]
    """Whether no answer should be given: the image is foreign, or not exactly one class is plausible (n,)."""


@dataclass(frozen=True)
class Trust:
    """The fitted rule."""

    coverage: float
    """How often a set holds the right class."""
    quantile: float
    """See `conformal.fit_quantile`."""
    detector: OodDetector

    def judge(self, probabilities: Floats, features: Floats) -> Judgement:
        """Judge answers from their calibrated probabilities (n, C) and the features (n, d) that the head reads."""
        return self.judge_scored(probabilities, self.detector.scores(features))

    def judge_scored(self, probabilities: Floats, scores: Values) -> Judgement:
        """Judge answers from their calibrated probabilities (n, C) and the detector's scores (n,)."""
        sets = prediction_sets(probabilities, self.quantile)
        ood = np.asarray(scores / self.detector.threshold, dtype=np.float64)
        foreign = np.asarray(ood > 1.0, dtype=np.bool_)
        return Judgement(sets, ood, foreign, abstains(sets) | foreign)

    def save(self, folder: Path) -> None:
        """Write `trust.safetensors` into `folder`."""
        arrays = {**self.detector.arrays(), "conformal": np.array([self.coverage, self.quantile], dtype=np.float64)}
        with replacing(folder / TRUST_FILE) as temporary:
            temporary.write_bytes(safetensors.numpy.save({name: np.ascontiguousarray(a) for name, a in arrays.items()}))

    @classmethod
    def load(cls, folder: Path) -> "Trust":
        """Read what `save` wrote.

        Raises:
            ModelError: if there is none.
        """
        path = Path(folder) / TRUST_FILE
        if not path.is_file():
            raise ModelError(f"{path}: no such file; train the model again to get prediction sets")
        arrays: Mapping[str, npt.NDArray[np.float32]] = safetensors.numpy.load_file(path)
        coverage, quantile = (float(value) for value in arrays["conformal"])
        return cls(coverage, quantile, OodDetector.from_arrays(arrays))


def fit_trust(
    train_features: Floats,
    train_targets: Targets,
    val_features: Floats | Rows,
    val_probabilities: Floats,
    val_targets: Targets,
    *,
    coverage: float = COVERAGE,
    false_alarms: float = FALSE_ALARMS,
) -> Trust | None:
    """Fit the detector to training features and both thresholds to validation images.

    Returns:
        None if there are too few validation images (9 for a coverage of 0.9) to promise the coverage: a rule that
        always abstains helps no one.

    Args:
        train_features: what the head reads of training images (n, d).
        train_targets: int64 (n,).
        val_features: of validation images (m, d); read in blocks.
        val_probabilities: calibrated, as they will be served (m, C).
        val_targets: int64 (m,).
        coverage: of the prediction sets.
        false_alarms: part of validation images that may be called foreign.
    """
    detector = fit_ood(train_features, train_targets, val_probabilities.shape[1])
    return calibrated_trust(
        detector,
        detector.scores(val_features),
        val_probabilities,
        val_targets,
        coverage=coverage,
        false_alarms=false_alarms,
    )


def calibrated_trust(
    detector: OodDetector,
    val_scores: Values,
    val_probabilities: Floats,
    val_targets: Targets,
    *,
    coverage: float = COVERAGE,
    false_alarms: float = FALSE_ALARMS,
) -> Trust | None:
    """Fit both thresholds to validation images, given what the detector says of them (m,); see `fit_trust`."""
    if (len(val_targets) + 1) * (1 - coverage) < 1 - 1e-9:
        return None
    quantile = fit_quantile(val_probabilities, val_targets, coverage)
    return Trust(coverage, quantile, detector.with_threshold_at(val_scores, false_alarms))
