"""What fits into a budget: counted work, or time whose rate is measured; decided once."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from graft.finetune.budget import AUTO_PASSES, Budget, StageCost
from graft.params.fine_tune import FineTuneParams
from graft.training.checkpoints import Checkpoints

COST = StageCost.of([6, 2, 2], 1, cached=True, views=4)


def test_work_is_counted_in_forward_passes() -> None:
    assert (COST.frozen, COST.trained) == (0.6, 0.4)
    # Ten images through the frozen part once for each of two views, and through the trained part forward and back.
    assert COST.passes(2, 10, 10) == pytest.approx(0.6 * 20 + 3 * 0.4 * 20)
    assert COST.passes(8, 10, 10) == pytest.approx(0.6 * 40 + 3 * 0.4 * 80), "the fifth epoch has no new view"
    uncached = StageCost.of([6, 2, 2], 1, cached=False, views=4)
    assert uncached.passes(8, 10, 10) == pytest.approx(0.6 * 80 + 3 * 0.4 * 80)


def test_auto_does_not_look_at_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget("auto", 10, Checkpoints(None))
    monkeypatch.setattr("graft.finetune.budget.time.monotonic", lambda: 1e9)
    assert budget.epochs_that_fit("a", COST, 100, 10, 30) == 15  # 15 * 36 + 24 passes of at most 600
    budget.spend(AUTO_PASSES * 10 - 61)
    assert budget.epochs_that_fit("a", COST, 100, 10, 30) == 1
    budget.spend(30)
    assert budget.epochs_that_fit("a", COST, 100, 10, 30) == 0
    assert Budget("none", 10, Checkpoints(None)).epochs_that_fit("a", COST, 100, 10, 30) == 100


def test_a_time_is_turned_into_epochs_by_the_measured_rate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = 100.0
    monkeypatch.setattr("graft.finetune.budget.time.monotonic", lambda: now)
    budget = Budget("5m", 10, Checkpoints(tmp_path))
    assert budget.epochs_that_fit("first", COST, 12, 10, 30) == 12, "nothing is known yet"
    now += 60.0
    budget.spend(42.1)  # a minute, so four are left for 168.4 passes: 4 epochs of 36, with 24 for the views
    assert budget.epochs_that_fit("second", COST, 12, 10, 30) == 4
    now += 200.0
    assert budget.epochs_that_fit("third", COST, 12, 10, 30) == 0


def test_a_resumed_run_decides_as_before_and_counts_what_was_spent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = 0.0
    monkeypatch.setattr("graft.finetune.budget.time.monotonic", lambda: now)
    first = Budget("5m", 10, Checkpoints(tmp_path))
    now = 60.0
    first.spend(42.1)
    assert first.epochs_that_fit("second", COST, 12, 10, 30) == 4
    now = 1000.0
    again = Budget("5m", 10, Checkpoints(tmp_path))
    now = 1001.0  # the trial comes from a checkpoint
    again.spend(42.1)
    assert again.epochs_that_fit("second", COST, 12, 10, 30) == 4
    assert again.epochs_that_fit("another", COST, 12, 10, 30) == 4, "a minute was spent before the interruption"


@pytest.mark.parametrize(
    ("asked", "seconds"), [("auto", None), ("none", None), ("90s", 90), ("1.5m", 90), ("1h", 3600)]
)
def test_a_budget_is_a_word_or_a_time(asked: str, seconds: float | None) -> None:
    assert Budget(FineTuneParams(budget=asked).budget, 10, Checkpoints(None)).seconds == seconds


@pytest.mark.parametrize("asked", ["5", "5 min", "-1m", "much", ""])
def test_any_other_budget_is_refused(asked: str) -> None:
    with pytest.raises(ValidationError):
        FineTuneParams(budget=asked)


def test_the_time_that_a_run_has_left_is_a_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("graft.finetune.budget.time.monotonic", lambda: now)
    budget = Budget("auto", 10, Checkpoints(None), allowed=120.0)
    assert budget.name == "120 s left of the run's budget"
    now = 60.0
    budget.spend(42.1)  # a minute is left for 42.1 passes; the work of auto would be enough for 15 epochs
    assert budget.epochs_that_fit("a", COST, 100, 10, 30) == 1
    now = 1.0
    fast = Budget("auto", 10, Checkpoints(None), allowed=1e6)
    now = 2.0
    fast.spend(1.0)
    assert fast.epochs_that_fit("a", COST, 100, 10, 30) == 15, "the work of auto is still the limit"
    assert Budget("1m", 10, Checkpoints(None), allowed=120.0).name == "budget of 1m"
