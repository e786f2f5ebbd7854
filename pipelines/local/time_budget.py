"""The time budget of a run: before a step starts, what no longer fits beside the rest of the run is left out of it.

Getting, checking and embedding the images, a linear head, the test and the registration always run. Heads of other
kinds, stages of fine-tuning and the costly parts of the report run if they fit. Costs come from a model (see
docs/scale.md), scaled by how long the steps so far took compared with it.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graft.core.atomic import read_json, write_json, write_text
from graft.heads.feature_sample import SAMPLE_IMAGES
from graft.heads.kind_selection import MOST_COMPARED
from graft.runs.step import ERROR_FILE
from graft.runs.time_limit import environment
from graft.stats.subsampling import CHOICE_IMAGES
from pipelines.local.runner import METRICS
from pipelines.local.tasks import Start, Task

LIMITED = ("train_head", "fine_tune", "evaluate")
"""The steps that a budget changes."""
LEFT_OUT_FILE = "left_out.json"
TOLERANCE = 1.2
"""A run that cannot end within this many times its budget is not begun."""
DOUBT = 60.0
"""Before a run is ended, as many seconds at the model's pace count as seen: its first steps also load programs, which
later ones find in memory, and look two or three times slower than the machine is."""
FORWARD = 0.012
"""Seconds for an image through the default backbone on 2 cores, if no image of this run was new."""


@dataclass(frozen=True)
class Images:
    """What the cost of a step depends on."""

    train: int
    val: int
    test: int
    forward: float
    """Seconds for an image through the backbone."""
    measured: bool = False
    """Whether `forward` is of this machine as it is now."""

    @property
    def all(self) -> int:
        """Return their number."""
        return self.train + self.val + self.test


Cost = Callable[[Images], float]
REQUIRED: Mapping[str, Cost] = {
    "get_data": lambda images: 2 + 0.0004 * images.all,
    "validate_data": lambda images: 4 + 0.004 * images.all,
    "extract_features": lambda images: 4 + images.forward * images.all,
    "train_head": lambda images: (
        3 + 0.01 * min(images.train, CHOICE_IMAGES) + 0.005 * max(0, images.train - CHOICE_IMAGES)
    ),
    "review_features": lambda images: 5 + 0.004 * images.all,
    "fine_tune": lambda images: 4 + 2 * images.forward * min(images.train, SAMPLE_IMAGES),
    "adapt": lambda images: 2,
    "evaluate": lambda images: 5 + 2 * images.forward * (images.val + images.test) + 0.001 * images.all,
    "register_model": lambda images: 8,
}
"""Seconds of a step without what a budget may leave out."""
OTHER_HEADS: Cost = lambda images: 2 + 0.024 * min(images.train, MOST_COMPARED)  # noqa: E731
TRIAL: Cost = lambda images: 4 + 8 * images.forward * images.train  # noqa: E731
PARTS: Mapping[str, tuple[str, Cost]] = {
    "explain": ("where the model looked", lambda images: 3),
    "learning_curve": ("the learning curve", lambda images: 2 + 0.008 * min(images.train, CHOICE_IMAGES)),
    "random_init": (
        "the comparison with random weights",
        lambda images: 3 + 3 * images.forward * (min(images.train, 500) + min(images.test, 250)),
    ),
}
"""Parts of the report by the parameter that asks for them, the most useful first: name and seconds."""


class TimeBudget:
    """The budget of one run; see the module."""

    def __init__(self, seconds: float, asked: str, steps: list[str]) -> None:
        """Start the clock.

        Args:
            seconds: most time for the run.
            asked: the same as the user wrote it.
            steps: all steps in the order in which they run.
        """
        self.left_out: list[str] = []
        self._seconds, self._asked, self._steps = seconds, asked, steps
        self._began = time.monotonic()
        self._took = 0.0
        self._ran: list[str] = []

    def limiting(self, start: Start) -> Start:
        """Return how to start tasks, each reduced to what fits."""

        def limited(task: Task) -> int:
            images = _images(task.folder.parent)
            if self._left() + (TOLERANCE - 1) * self._seconds < self._required(task.step, images, DOUBT):
                return self._refuse(task, images)
            before = _left_out_before(task.folder.parent)
            fitted, seconds, said = self._fit(task, images)
            began = time.monotonic()
            told = Task(fitted.command, {**fitted.environment, **environment(seconds, [*before, *said])})
            code = start(told)
            self._took += time.monotonic() - began
            self._ran.append(task.step)
            if code == 0 and said:
                self.left_out += said
                write_json(task.folder / LEFT_OUT_FILE, said)
            return code

        return limited

    def _left(self) -> float:
        return self._seconds - (time.monotonic() - self._began)

    def _required(self, step: str, images: Images, doubt: float = 0.0) -> float:
        """Return the seconds that this step and those after it need at least."""
        return sum(self._cost(REQUIRED[name], images, doubt) for name in self._steps[self._steps.index(step) :])

    def _cost(self, cost: Cost, images: Images, doubt: float = 0.0) -> float:
        """Return the seconds of something here and now; a measured time of the backbone is not scaled once more."""
        steady, passes = _parts(cost, images)
        slowness = self._slowness(images, doubt)
        return slowness * steady + (1.0 if images.measured else slowness) * passes

    def _slowness(self, images: Images, doubt: float) -> float:
        """Return how long steps took compared with the model, between a half and eight; `doubt`: see `DOUBT`."""
        if not images.all or not self._ran:
            return 1.0
        parts = [_parts(REQUIRED[step], images) for step in self._ran]
        steady, passes = sum(one for one, _ in parts), sum(one for _, one in parts)
        took, model = (self._took - passes, steady) if images.measured else (self._took, steady + passes)
        return min(8.0, max(0.5, (took + doubt) / (model + doubt)))

    def _fit(self, task: Task, images: Images) -> tuple[Task, float | None, list[str]]:
        """Return the task with what fits, the seconds for stages of fine-tuning, and what was left out."""
        spare, params = self._left() - self._required(task.step, images), task.params
        other_heads = self._cost(OTHER_HEADS, images)
        if task.step == "train_head" and params.get("head", "auto") == "auto" and spare < other_heads:
            return _with_params(task, {"head": "linear"}), None, ["other heads than a linear one"]
        if task.step == "fine_tune":
            return task, spare if spare >= self._cost(TRIAL, images) else 0.0, []
        changed: dict[str, Any] = {}
        if task.step == "evaluate":
            for name, (_, cost) in PARTS.items():
                if params.get(name, True):
                    spare -= self._cost(cost, images)
                    if spare < 0:
                        changed[name] = False
        return (_with_params(task, changed) if changed else task), None, [PARTS[name][0] for name in changed]

    def _refuse(self, task: Task, images: Images) -> int:
        needed = self._seconds - self._left() + self._required(task.step, images, DOUBT)
        what = f"the shortest run on these {images.all:,} images" if images.all else "even a run on a handful of images"
        write_text(
            task.folder / ERROR_FILE,
            f"budget of {self._asked}: {what} takes about {needed:.0f} s here; give it more time "
            "(what is done is kept for that run)\n",
        )
        return 1


def _images(folder: Path) -> Images:
    """Return what the steps so far have found: no images before they are counted."""
    counted = folder / "validate-data" / METRICS
    if not counted.is_file():
        return Images(0, 0, 0, FORWARD)
    counts = {split: sum(of.values()) for split, of in read_json(counted)["counts"].items()}
    extracted = folder / "extract-features" / METRICS
    rate = read_json(extracted)["images_per_second"] if extracted.is_file() else 0.0
    forward = 1 / rate if rate else FORWARD
    return Images(counts.get("train", 0), counts.get("val", 0), counts.get("test", 0), forward, measured=bool(rate))


def _parts(cost: Cost, images: Images) -> tuple[float, float]:
    """Return the seconds of the model without the backbone, and those of the backbone."""
    steady = cost(replace(images, forward=0.0))
    return steady, cost(images) - steady


def _left_out_before(folder: Path) -> list[str]:
    return [text for file in sorted(folder.glob(f"*/{LEFT_OUT_FILE}")) for text in read_json(file)]


def _with_params(task: Task, changed: Mapping[str, Any]) -> Task:
    """Return the task with other parameters."""
    options = list(task.command)
    place = options.index("--executor_input") + 1
    values = json.loads(options[place])
    values["inputs"]["parameterValues"]["params"] = {**task.params, **changed}
    options[place] = json.dumps(values)
    return replace(task, command=options)
