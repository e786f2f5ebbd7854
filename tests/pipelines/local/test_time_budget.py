"""What a budget leaves of a run, on a clock that the steps move."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from graft.core.atomic import write_json
from graft.params.params import Params
from pipelines.local.runner import METRICS
from pipelines.local.tasks import Task
from pipelines.local.time_budget import PARTS, REQUIRED, Images, TimeBudget

STEPS = list(Params.model_fields)
IMAGES = Images(train=640, val=160, test=200, forward=0.01)


@dataclass
class Machine:
    """Runs made-up steps: each takes what the model says, times `slow`."""

    folder: Path
    slow: float = 1.0
    passes: float = 1.0
    """How many times slower the backbone is than `slow` says, which it measures."""
    cold: float = 0.0
    """Seconds that each of the first two steps takes to load programs, once."""
    now: float = 1000.0
    params: dict[str, dict[str, Any]] = field(default_factory=dict)
    told: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def start(self, task: Task) -> int:
        self.params[task.step], self.told[task.step] = task.params, task.environment
        optional = [cost(IMAGES) for name, (_, cost) in PARTS.items() if task.params.get(name) in (True, "auto")]
        stages = min(40.0, float(task.environment.get("GRAFT_STAGE_SECONDS", 0.0))) if task.step == "fine_tune" else 0
        slower = replace(IMAGES, forward=IMAGES.forward * self.passes)
        self.now += self.slow * (REQUIRED[task.step](slower) + sum(optional)) + stages
        self.now += self.cold if task.step in STEPS[:2] else 0.0
        if task.step == "validate_data":
            counts = {"train": {"a": 320, "b": 320}, "val": {"a": 160}, "test": {"a": 200}}
            write_json(task.folder / METRICS, {"counts": counts})
        if task.step == "extract_features":
            write_json(task.folder / METRICS, {"images_per_second": 100.0 / self.slow / self.passes})
        return 0

    def run(self, budget: TimeBudget) -> int:
        start = budget.limiting(self.start)
        return next((code for step in STEPS if (code := start(self.task(step)))), 0)

    def task(self, step: str) -> Task:
        folder = self.folder / step.replace("_", "-")
        folder.mkdir(exist_ok=True)
        values = {
            "inputs": {"parameterValues": {"params": Params().section(step)}},
            "outputs": {"outputFile": str(folder / "executor_output.json")},
        }
        options = ["--executor_input", json.dumps(values), "--function_to_execute", step]
        return Task(["sh", "-c", "script", "source", *options], {})


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setattr("pipelines.local.time_budget.time.monotonic", lambda: made.now)
    return made


def shortest() -> float:
    return sum(cost(IMAGES) for cost in REQUIRED.values())


def test_with_much_time_nothing_is_left_out(machine: Machine) -> None:
    budget = TimeBudget(3600, "1h", STEPS)
    assert machine.run(budget) == 0
    assert budget.left_out == []
    assert machine.params["evaluate"] == Params().section("evaluate")
    assert float(machine.told["fine_tune"]["GRAFT_STAGE_SECONDS"]) > 3000


@pytest.mark.parametrize("slow", [1.0, 3.0])
@pytest.mark.parametrize("share", [1.0, 1.2, 1.5, 2.0, 3.0])
def test_every_budget_that_a_run_can_keep_is_kept(machine: Machine, slow: float, share: float) -> None:
    machine.slow = slow
    seconds = share * slow * shortest()
    assert machine.run(TimeBudget(seconds, "budget", STEPS)) == 0
    assert machine.now - 1000.0 <= 1.2 * seconds


def test_programs_that_are_loaded_once_do_not_end_a_run_that_has_time(machine: Machine) -> None:
    machine.cold = 6.0
    seconds = shortest() + 2 * machine.cold
    assert machine.run(TimeBudget(seconds, "budget", STEPS)) == 0
    assert machine.now - 1000.0 <= 1.2 * seconds


@pytest.mark.parametrize("slow", [1.0, 4.0])
def test_a_measured_backbone_is_not_taken_for_slower_still_when_its_step_is_reused(
    machine: Machine, slow: float
) -> None:
    machine.slow, machine.passes = slow, 5.0
    reused, rest = STEPS[:3], STEPS[3:]
    first = TimeBudget(36000, "10h", STEPS).limiting(machine.start)
    assert [first(machine.task(step)) for step in reused] == [0, 0, 0]
    slower = replace(IMAGES, forward=IMAGES.forward * machine.passes)
    seconds, began = 1.1 * slow * sum(REQUIRED[step](slower) for step in rest), machine.now
    again = TimeBudget(seconds, "budget", STEPS).limiting(machine.start)
    assert [again(machine.task(step)) for step in rest] == [0] * len(rest)
    assert machine.now - began <= 1.2 * seconds


def test_what_is_left_out_is_told_to_the_later_steps(machine: Machine) -> None:
    budget = TimeBudget(1.02 * shortest(), "2m", STEPS)
    assert machine.run(budget) == 0
    assert machine.params["train_head"]["head"] == "linear"
    assert machine.told["fine_tune"]["GRAFT_STAGE_SECONDS"] == "0.0"
    assert not machine.params["evaluate"]["learning_curve"]
    assert "other heads than a linear one" in json.loads(machine.told["evaluate"]["GRAFT_LEFT_OUT"])
    assert budget.left_out[0] == "other heads than a linear one"
    # Another run that reuses the head still knows.
    assert json.loads((machine.folder / "train-head" / "left_out.json").read_text()) == budget.left_out[:1]


def test_a_budget_that_no_run_can_keep_ends_it_before_the_costly_steps(machine: Machine) -> None:
    assert machine.run(TimeBudget(0.6 * shortest(), "50s", STEPS)) == 1
    assert "train_head" not in machine.params
    (error,) = machine.folder.glob("*/error.txt")
    assert error.read_text().startswith("budget of 50s: the shortest run on these 1,000 images takes about ")


def test_what_the_user_has_switched_off_is_not_called_left_out(machine: Machine) -> None:
    budget = TimeBudget(1.0 * shortest(), "2m", STEPS)
    task = machine.task("evaluate")
    values = json.loads(task.command[5])
    values["inputs"]["parameterValues"]["params"] |= {"explain": False, "random_init": False}
    asked = Task([*task.command[:5], json.dumps(values), *task.command[6:]], {})
    for step in STEPS[: STEPS.index("evaluate")]:
        budget.limiting(machine.start)(machine.task(step))
    assert budget.limiting(machine.start)(asked) == 0
    assert {"where the model looked", "the comparison with random weights"}.isdisjoint(budget.left_out)


def test_a_budget_below_what_the_start_of_a_run_takes_ends_it_at_once(machine: Machine) -> None:
    machine.slow = 10.0
    assert machine.run(TimeBudget(20, "20s", STEPS)) == 1
    assert list(machine.params) == []
    (error,) = machine.folder.glob("*/error.txt")
    assert error.read_text().startswith("budget of 20s: even a run on a handful of images takes about ")
