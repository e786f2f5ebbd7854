"""Thresholds by a stated goal: against trying every one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.core.errors import ParamsError
from graft.stats.threshold_selection import Goal, choose_threshold


def counts(positive: np.ndarray, score: np.ndarray, threshold: float) -> tuple[int, int, int]:
    named = score >= threshold
    return int((named & positive).sum()), int((named & ~positive).sum()), int((~named & positive).sum())


def merit(goal: Goal, hits: int, alarms: int, missed: int) -> float:
    precision, recall = hits / max(hits + alarms, 1), hits / max(hits + missed, 1)
    match goal.kind:
        case "max_f1":
            return 2 * hits / (2 * hits + alarms + missed)
        case "cost":
            return -(goal.false_alarm * alarms + goal.miss * missed)
        case "precision":
            return recall if precision >= goal.level else -1.0
        case "recall":
            return precision if recall >= goal.level else -1.0


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["max_f1", "precision>=0.7", "recall>=0.9", "cost=1:4"]),
    st.integers(0, 500),
    st.sampled_from([4, 500]),
)
def test_no_other_threshold_serves_the_goal_better(text: str, seed: int, steps: int) -> None:
    generator = np.random.default_rng(seed)
    positive = generator.random(40) < 0.4
    positive[:2] = [True, False]
    score = np.round((generator.random(40) + positive * 0.7) / 1.7 * steps) / steps
    goal = Goal.parse(text)
    choice = choose_threshold(positive, score, goal)
    best = max(merit(goal, *counts(positive, score, threshold)) for threshold in np.unique(score))
    if choice.reached:
        assert merit(goal, *counts(positive, score, choice.threshold)) == pytest.approx(best)
    else:
        assert best == -1.0


def test_a_goal_out_of_reach_is_reported() -> None:
    positive = np.array([False, True, False, True])
    score = np.array([0.9, 0.8, 0.7, 0.1])
    choice = choose_threshold(positive, score, Goal.parse("precision>=0.9"))
    assert not choice.reached
    assert choose_threshold(np.ones(3, dtype=bool), np.ones(3), Goal("max_f1")) == (
        choice.__class__(0.5, reached=False)
    )


@pytest.mark.parametrize("text", ["max_f1", "precision>=0.9", "recall>=0.95", "cost=1:5"])
def test_goals_read_back(text: str) -> None:
    assert str(Goal.parse(text)) == text


@pytest.mark.parametrize("text", ["f1", "precision>0.9", "recall>=1.5", "cost=1", "cost=0:0", ""])
def test_an_unknown_goal_names_the_forms(text: str) -> None:
    with pytest.raises(ParamsError, match=r"threshold goal '.*': expected max_f1, precision>=0\.9"):
        Goal.parse(text)
