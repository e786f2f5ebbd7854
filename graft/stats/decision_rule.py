"""Which class is the answer: the most probable one or, of two, the positive one from a threshold on. NumPy alone."""

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from graft.stats.metrics import Floats, Targets


class Rule(BaseModel):
    """Two classes: the positive one is the answer from this probability on, whatever the other one's is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    positive: int = Field(ge=0, le=1)
    """Its index."""
    threshold: float = Field(ge=0.0, le=1.0)


def apply_rule(probabilities: Floats, rule: Rule | None) -> Targets:
    """Return the answer for each row of probabilities (n, C), int64 (n,).

    Args:
        probabilities: of every class; with a rule, of two.
        rule: None: the most probable class is the answer.
    """
    if rule is None:
        return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)
    named = probabilities[:, rule.positive] >= rule.threshold
    return np.where(named, rule.positive, 1 - rule.positive).astype(np.int64)


def confidences(probabilities: Floats, answers: Targets) -> npt.NDArray[np.float64]:
    """Return the probability (n,) of each answer; with a rule it may be below a half."""
    return np.asarray(probabilities[np.arange(len(answers)), answers], dtype=np.float64)


def abstain_with_rule(
    answers: Targets, sets: npt.NDArray[np.bool_], abstain: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Return where to abstain (n,): also where a threshold picks a class that is not plausible.

    Args:
        answers: int64 (n,).
        sets: which classes are plausible, bool (n, C).
        abstain: where to abstain by probabilities and features alone, bool (n,).
    """
    return np.asarray(abstain | ~sets[np.arange(len(answers)), answers], dtype=np.bool_)
