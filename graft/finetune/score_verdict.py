"""Whether a stage that is judged by a score of each photo is kept: the rule of decoders and detectors."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from graft.finetune.stage_verdict import quantile
from graft.stats.paired_difference import paired_difference


class ScoreVerdict(NamedTuple):
    """The comparison of a stage with the best model before it."""

    gain: float
    error: float
    """Increase of the mean score and its standard error, over groups of photos."""
    kept: bool
    reason: str


def judge_scores(
    name: str, before: npt.NDArray[np.float64], after: npt.NDArray[np.float64], groups: npt.NDArray[Any], strategy: str
) -> ScoreVerdict:
    """Judge a stage by validation photos; without a clear gain only a stage that was asked for is kept.

    Args:
        name: of the score, such as `Dice`.
        before: score of each of n photos with the best model so far, higher is better.
        after: the same after the stage.
        groups: of the photos (n,).
        strategy: `staged` rolls back what brings no clear gain.
    """
    gain, error = paired_difference(-before, -after, groups)
    independent = len(np.unique(groups))
    clear = independent > 1 and gain > quantile(1, independent) * error
    kept = clear or strategy != "staged"
    told = f"{name} {before.mean():.3f} -> {after.mean():.3f} (gain {gain:+.3f}, standard error {error:.3f})"
    verdict = "kept" if clear else "kept as asked for, no clear gain" if kept else "rolled back: no clear gain"
    return ScoreVerdict(gain, error, kept, f"{verdict}; {len(before)} validation photos: {told}")
