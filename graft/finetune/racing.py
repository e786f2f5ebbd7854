"""Stages race: each is tried briefly, the most promising one gets the complete training, and what cannot pay ends.

In the spirit of successive halving (Jamieson and Talwalkar 2016; Hyperband, Li et al. 2018), with two rungs: a trial
costs a quarter of the complete stage at most, and most stages end there. In a far domain the stage that the depth curve
suggests and a deeper one race. In a near one the deeper stage is tried only if the first one is not promising and the
images could show what a deeper stage may bring.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from graft.finetune.reporting import print_progress
from graft.finetune.stage_trial import (
    BestModel,
    StageInputs,
    Trial,
    first_model,
    held_out_images,
    train_stage,
    trained_images,
    trial_images,
    trial_of,
    try_briefly,
)
from graft.finetune.tuning_context import TuningContext
from graft.models.bundle_spec import StageRecord
from graft.training.stage import Stage


@dataclass(frozen=True)
class Raced:
    """What came of all stages."""

    best: BestModel
    records: tuple[StageRecord, ...]
    left_out: tuple[str, ...]
    """What the budget did not allow, in words."""


def race(context: TuningContext, stages: Sequence[Stage]) -> Raced:
    """Return the best model after the stages that helped, with a record of each training of a stage."""
    runner = _Runner(context, first_model(context, StageInputs.of(context, stages[0])))
    remaining = list(stages)
    while remaining:
        winner = runner.trial_winner(remaining) if context.plan.raced else runner.as_asked(remaining[0])
        if winner is None:
            break
        kept = runner.train(winner, runner.rivals if context.plan.raced else 1)
        if not kept and (context.plan.raced or not context.plan.persistent):
            break
        # The deeper stages start from the new best model.
        remaining = [stage for stage in remaining if len(stage.groups) > len(winner.stage.groups)]
    return Raced(runner.best, tuple(runner.records), tuple(runner.left_out))


class _Runner:
    """Runs trainings one after the other, and keeps the best model and the records."""

    def __init__(self, context: TuningContext, best: BestModel) -> None:
        self.context, self.best = context, best
        self.records: list[StageRecord] = []
        self.left_out: list[str] = []
        self.rivals = 1
        """Number of stages among which the last winner was the best."""
        self._number = 0

    def trial_winner(self, remaining: Sequence[Stage]) -> StageInputs | None:
        """Try the stages that may run now; return the most promising one with the epochs that fit the budget."""
        trials = self._trials(remaining)
        self.rivals = max(1, len(trials))
        promising = [trial for trial in trials if trial.promising]
        if not promising:
            self._record(trials)
            return None
        winner = max(promising, key=lambda trial: trial.found.gain)
        epochs = self._epochs_that_fit(winner.inputs, "complete", trained_images(self.context))
        if epochs < trial_of(winner.inputs.stage).epochs:
            self._leave_out(f"stage {winner.inputs.stage.name} was promising ({winner.found.describe()})")
            self._record([trial for trial in trials if trial is not winner])
            return None
        self._record([trial for trial in trials if trial is not winner], f"less promising than {winner.record.name}")
        return self._shortened(winner.inputs, epochs)

    def _trials(self, remaining: Sequence[Stage]) -> list[Trial]:
        """Try the stages that race."""
        if self.context.plan.persistent:
            return [trial for stage in remaining if (trial := self._tried(stage, len(remaining)))]
        first = self._tried(remaining[0], 1)
        if first is None or first.promising or len(remaining) == 1:
            return [first] if first else []
        if not first.found.could_show_a_usual_gain(held_out_images(self.context), 2):
            return [first]
        second = self._tried(remaining[1], 2)
        return [first, second] if second else [first]

    def as_asked(self, stage: Stage) -> StageInputs:
        """Return the inputs of a stage that is trained without a trial; a time limit may shorten it."""
        inputs = StageInputs.of(self.context, stage)
        if self.context.budget.seconds is None:
            return inputs
        # An epoch shows how long the others will take.
        timing = replace(inputs, stage=replace(stage, epochs=1))
        try_briefly(self.context, self._next(), timing, self.best, 1)
        fit = self._epochs_that_fit(inputs, "complete", trained_images(self.context))
        return self._shortened(inputs, max(1, fit))

    def train(self, inputs: StageInputs, tried: int) -> bool:
        """Train a stage completely; return whether it is kept."""
        record, self.best = train_stage(self.context, self._next(), inputs, self.best, tried)
        self.records.append(record)
        print_progress(f"stage {record.name}: {record.reason}")
        return record.kept

    def _tried(self, stage: Stage, tried: int) -> Trial | None:
        inputs = StageInputs.of(self.context, stage)
        short = inputs.briefly()
        if self._epochs_that_fit(short, "trial", trial_images(self.context)) < short.stage.epochs:
            self._leave_out(f"stage {stage.name} was not tried")
            return None
        return try_briefly(self.context, self._next(), inputs, self.best, tried)

    def _epochs_that_fit(self, inputs: StageInputs, what: str, trained: int) -> int:
        images = len(self.context.images.train.plain)
        most, name = inputs.stage.epochs, f"{self._number}-{what}"
        return self.context.budget.epochs_that_fit(name, inputs.cost, most, images, trained)

    def _shortened(self, inputs: StageInputs, epochs: int) -> StageInputs:
        planned = inputs.stage.epochs
        if epochs < planned:
            self._leave_out(f"stage {inputs.stage.name} ran {epochs} of {planned} epochs")
        return replace(inputs, stage=replace(inputs.stage, epochs=epochs))

    def _leave_out(self, what: str) -> None:
        self.left_out.append(what)
        print_progress(f"{self.context.budget.name}: {what}")

    def _record(self, trials: Sequence[Trial], why: str = "") -> None:
        for trial in trials:
            record = trial.record
            if why and trial.promising:
                record = record.model_copy(update={"reason": f"{why}; {trial.found.describe()}"})
            self.records.append(record)
            print_progress(f"stage {record.name}: {record.reason}")

    def _next(self) -> int:
        self._number += 1
        return self._number - 1
