"""Stages race: what is tried, what gets the complete training, and what the budget leaves out."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from graft.finetune import racing
from graft.finetune.budget import Budget, StageCost
from graft.finetune.racing import race
from graft.finetune.stage_plan import StagePlan
from graft.finetune.stage_trial import BestModel, StageInputs, Trial
from graft.finetune.stage_verdict import Comparison
from graft.finetune.tuning_context import TuningContext
from graft.models.bundle_spec import StageRecord
from graft.training.checkpoints import Checkpoints
from graft.training.stage import Stage

TOP, MIDDLE, DEEP = (Stage(("c", "d")[2 - n :] if n < 3 else ("b", "c", "d"), 8, 0.1) for n in (1, 2, 3))
PLAN = StagePlan((TOP, MIDDLE), "light", 4, 0, False, persistent=True, requested=False, raced=True, wise_ft=False)


def record(stage: Stage, *, kept: bool, trial: bool, reason: str = "because") -> StageRecord:
    return StageRecord(
        name=stage.name,
        groups=stage.groups,
        epochs=stage.epochs,
        trial=trial,
        evidence="validation",
        start_accuracy=0.5,
        start_loss=1.0,
        train_loss=(),
        held_out_loss=(),
        accuracy=0.5,
        log_loss=1.0,
        kept=kept,
        reason=reason,
        best_epoch=1,
        seconds=0.0,
    )


Run = Callable[..., tuple[list[tuple[str, bool, bool]], list[str], racing.Raced]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that races stages whose trials gain what it is told, and says what ran."""

    def raced(
        gains: dict[str, float],
        kept: set[str],
        plan: StagePlan = PLAN,
        budget: str = "none",
        rate: float = 0.0,
        error: float = 0.1,
    ) -> tuple[list[tuple[str, bool, bool]], list[str], racing.Raced]:
        ran: list[str] = []
        cost = StageCost(0.5, 0.5, True, 4)
        monkeypatch.setattr(racing, "first_model", lambda context, inputs: BestModel(None, (), (), None, 1.0))
        monkeypatch.setattr(racing, "trained_images", lambda context: 20)
        monkeypatch.setattr(racing, "trial_images", lambda context: 10)
        monkeypatch.setattr(racing, "held_out_images", lambda context: 10)

        class Inputs(StageInputs):
            @classmethod
            def of(cls, context: TuningContext, stage: Stage) -> StageInputs:
                return StageInputs(stage, None, None, None, cost)

        def tried(context: TuningContext, number: int, inputs: StageInputs, best: BestModel, rivals: int) -> Trial:
            ran.append(f"trial {inputs.stage.name} of {rivals}")
            gain = gains.get(inputs.stage.name, 0.0)
            found = Comparison(gain, error, 1.0, 1.0 - gain, 5, 5, False, 10, 10)
            context.budget.spend(cost.passes(2, 10, 10))
            return Trial(inputs, record(inputs.stage, kept=False, trial=True), found, gain > 0)

        def trained(
            context: TuningContext, number: int, inputs: StageInputs, best: BestModel, rivals: int
        ) -> tuple[StageRecord, BestModel]:
            ran.append(f"train {inputs.stage.name} for {inputs.stage.epochs} of {rivals}")
            return record(inputs.stage, kept=inputs.stage.name in kept, trial=False), best

        monkeypatch.setattr(racing, "StageInputs", Inputs)
        monkeypatch.setattr(racing, "try_briefly", tried)
        monkeypatch.setattr(racing, "train_stage", trained)
        images = type("Images", (), {"train": type("Split", (), {"plain": range(10)})})
        spent = Budget(budget, 10, Checkpoints(None))
        spent.spend(rate)
        found = race(TuningContext(None, plan, None, images, Checkpoints(None), spent, None), plan.stages)
        return [(each.name, each.trial, each.kept) for each in found.records], ran, found

    return raced


def test_the_more_promising_stage_gets_the_complete_training(run: Run) -> None:
    records, ran, _ = run({"d": 0.1, "c": 0.2}, {"c"})
    assert ran == ["trial d of 2", "trial c of 2", "train c for 8 of 2"]
    assert records == [("d", True, False), ("c", False, True)]


def test_after_a_kept_stage_the_deeper_ones_start_from_it(run: Run) -> None:
    plan = replace(PLAN, stages=(TOP, MIDDLE, DEEP))
    _, ran, _ = run({"d": 0.2, "c": 0.1, "b": 0.1}, {"d"}, plan)
    assert ran == [
        *("trial d of 3", "trial c of 3", "trial b of 3", "train d for 8 of 3"),
        *("trial c of 2", "trial b of 2", "train c for 8 of 2"),
    ]


def test_where_no_trial_is_promising_nothing_more_is_spent(run: Run) -> None:
    records, ran, found = run({"d": -0.1, "c": 0.0}, set())
    assert ran == ["trial d of 2", "trial c of 2"]
    assert records == [("d", True, False), ("c", True, False)]
    assert found.left_out == ()


def test_in_a_near_domain_a_deeper_stage_is_tried_if_the_images_could_show_its_gain(run: Run) -> None:
    near = replace(PLAN, persistent=False)
    shown = ["trial d of 1", "trial c of 2", "train c for 8 of 2"]
    assert run({"d": -0.1, "c": 0.2}, {"c"}, near, error=0.01)[1] == shown
    assert run({"d": -0.1, "c": 0.2}, {"c"}, near)[1] == ["trial d of 1"], (
        "an error of 0.1 would hide a fifth of the loss"
    )
    assert run({"d": -0.1, "c": -0.2}, set(), near, error=0.01)[1] == shown[:2]


def test_in_a_near_domain_the_second_stage_follows_a_kept_first_one(run: Run) -> None:
    near = replace(PLAN, persistent=False)
    assert run({"d": 0.1, "c": 0.2}, set(), near)[1] == ["trial d of 1", "train d for 8 of 1"]
    assert run({"d": 0.1, "c": -0.2}, {"d"}, near)[1] == ["trial d of 1", "train d for 8 of 1", "trial c of 1"]


def test_requested_stages_are_trained_without_a_trial(run: Run) -> None:
    asked = replace(PLAN, stages=(MIDDLE,), requested=True, raced=False)
    assert run({}, {"c"}, asked)[1] == ["train c for 8 of 1"]


def test_what_does_not_fit_is_shortened_or_not_started_and_told(run: Run) -> None:
    # Of 600 passes; a trial costs 40, a complete stage 30 an epoch and 20 for the views.
    _, ran, found = run({"d": 0.2, "c": 0.1}, set(), budget="auto", rate=370.0)
    assert ran[-1] == "train d for 4 of 2"
    assert found.left_out == ("stage d ran 4 of 8 epochs",)
    _, ran, found = run({"d": 0.2, "c": 0.1}, set(), budget="auto", rate=450.0)
    assert ran == ["trial d of 2", "trial c of 2"]
    assert found.left_out[0].startswith("stage d was promising (log loss")
    _, ran, found = run({"d": 0.2, "c": 0.1}, set(), budget="auto", rate=520.0)
    assert ran == ["trial d of 2"]
    assert "stage c was not tried" in found.left_out


def test_a_requested_stage_is_timed_and_shortened_to_a_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10_000, 10))
    monkeypatch.setattr("graft.finetune.budget.time.monotonic", lambda: float(next(now)))
    asked = replace(PLAN, stages=(MIDDLE,), requested=True, raced=False)
    _, ran, found = run({}, {"c"}, asked, budget="40s")
    assert ran == ["trial c of 1", "train c for 3 of 1"], "10 s for 40 passes leave 120 of them"
    assert found.left_out == ("stage c ran 3 of 8 epochs",)
