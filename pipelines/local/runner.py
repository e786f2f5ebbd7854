"""Run the training pipeline on this machine with KFP's subprocess runner.

KFP's output is long and hides what matters. Here each step prints a line when it starts and when it ends, with its own
output in between; a log file keeps everything, and the error of a failed run is the step's own one-line cause.
"""

import contextlib
import io
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from graft.core.atomic import read_json
from graft.core.errors import GraftError
from graft.core.installed import prepare_environment
from graft.runs.step import ERROR_FILE
from pipelines.local.decisions import decided
from pipelines.local.progress import Shown
from pipelines.local.tasks import Start, starting

METRICS = "metrics"
REUSED = "nothing has changed, earlier results reused"
"""What a task prints that was not run."""
_TASK_LINE = re.compile(r"(?:Executing task|Task) '([\w-]+)'(?: finished with status (\w+))?$")
_COLOUR = re.compile(r"\x1b\[\d*m")
_EXECUTOR = "[KFP Executor"
_INPUT_FOLLOWS = "Got executor_input:"


def run_locally(
    pipeline: Any,
    arguments: Mapping[str, Any],
    steps: list[str],
    root: Path,
    log_file: Path,
    shown: Shown,
    choose: Callable[[Start], Start] = lambda start: start,
) -> dict[str, Path]:
    """Run a KFP pipeline step by step and return the folder of each step's outputs.

    Args:
        pipeline: a function decorated with `dsl.pipeline`.
        arguments: its arguments.
        steps: names of its steps in order.
        root: folder for the outputs of the steps, in a subfolder per run.
        log_file: receives every line, including those not shown.
        shown: is told what happens.
        choose: returns how to start tasks, given KFP's own way: each in a new Python process.

    Raises:
        GraftError: with the one-line cause of the failing step, or if a path cannot be used.
    """
    from kfp import local

    prepare_environment()  # the tasks are processes that import the components, whatever the working folder
    reject_python3({"the output folder": str(root), **_texts(arguments)})
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root), workspace_root=str(root / "workspace"))
    with starting(choose):
        return run_initialised(pipeline, arguments, steps, root, log_file, shown)


def run_initialised(
    pipeline: Any,
    arguments: Mapping[str, Any],
    steps: list[str],
    root: Path,
    log_file: Path,
    shown: Shown,
) -> dict[str, Path]:
    """Run a KFP pipeline with the runner set by `kfp.local.init`; see `run_locally`."""
    with log_file.open("w", encoding="utf-8") as log:
        lines = _Lines(steps, root, log, shown)
        try:
            with contextlib.redirect_stdout(lines), in_order(steps):
                pipeline(**arguments)
        except Exception as error:
            raise GraftError(_cause(root, lines, error, log_file)) from error
    return task_folders(root, steps)


@contextlib.contextmanager
def in_order(steps: list[str]) -> Iterator[None]:
    """Make KFP run independent tasks in the order of `steps`: its own order differs between runs."""
    from kfp.local import graph_utils

    before = graph_utils.topological_sort
    places = {step.replace("_", "-"): place for place, step in enumerate(steps)}

    def sort(upstream: Mapping[str, Any]) -> list[str]:
        tasks = sorted(upstream, key=lambda task: (places.get(task, len(places)), task))
        ordered: list[str] = before({task: upstream[task] for task in tasks})
        return ordered

    graph_utils.topological_sort = sort
    try:
        yield
    finally:
        graph_utils.topological_sort = before


def task_folders(root: Path, steps: list[str]) -> dict[str, Path]:
    """Return the output folder of each step that has one under `root`."""
    found = {step: sorted(root.glob(f"*/{step.replace('_', '-')}")) for step in steps}
    return {step: folders[-1] for step, folders in found.items() if folders}


def reject_python3(texts: Mapping[str, str]) -> None:
    """Reject texts that KFP's subprocess runner would change: it replaces every `python3`.

    Raises:
        GraftError: with the name of the text.
    """
    for name, text in texts.items():
        if "python3" in text:
            raise GraftError(
                f"{name} is {text!r}: a local run cannot use a path with 'python3' in it; choose or link another path"
            )


def _texts(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    texts: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            texts |= _texts(value, f"{prefix}{name}.")
        else:
            texts[f"{prefix}{name}"] = str(value)
    return texts


def _cause(root: Path, lines: "_Lines", error: Exception, log_file: Path) -> str:
    """Return the error message that the failing step wrote, else the last line that it printed."""
    for file in sorted(root.glob(f"*/*/{ERROR_FILE}"), key=lambda file: file.stat().st_mtime, reverse=True):
        return file.read_text(encoding="utf-8").strip()
    return f"{lines.ended or 'pipeline'}: {lines.last or error} (the full output is in {log_file})"


class _Lines(io.TextIOBase):
    """Replaces standard output while KFP runs, logs every line, and shows only the relevant ones."""

    def __init__(self, steps: list[str], root: Path, log: TextIO, shown: Shown) -> None:
        self.step: str | None = None
        self.ended: str | None = None
        self.last = ""
        self._steps = steps
        self._log = log
        self._root = root
        self._shown = shown
        self._started = 0.0
        self._rest = ""
        self._input: str | None = None  # the JSON that KFP prints before a step, as far as it was received
        self._held: str | None = None

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            line = _COLOUR.sub("", line).rstrip()
            self._log.write(line + "\n")
            self._log.flush()
            self._take(line)
        return len(text)

    def _take(self, line: str) -> None:
        task = _TASK_LINE.search(line)
        if task and task[2]:
            self._end(task[2] == "SUCCESS")
        elif task and "Executing" in line:
            self._start(task[1].replace("-", "_"))
        elif self._input is not None:
            self._input += line
            with contextlib.suppress(ValueError):
                json.loads(self._input)
                self._input = None
        elif self.step and line.strip():
            self._of_step(line.strip())

    def _start(self, step: str) -> None:
        self.step, self.last, self._started = step, "", time.monotonic()
        self._shown.start(step, *self._number())

    def _of_step(self, line: str) -> None:
        if line.startswith(_EXECUTOR):
            if line.endswith(_INPUT_FOLLOWS):
                self._input = ""
            return
        if " - INFO - " in line:
            return
        self._flush()
        self.last = line
        if line == REUSED:
            return  # shown at the end of the step
        if line.startswith(f"{self.step}: "):
            self._held = line  # held back: if it is the error of the step, the run ends with this line
        else:
            self._shown.say(line)

    def _flush(self) -> None:
        if self._held:
            self._shown.say(self._held)
        self._held = None

    def _end(self, success: bool) -> None:
        seconds = time.monotonic() - self._started
        if success:
            self._flush()
        ended = f"{'done' if success else 'failed'} in {seconds:.1f} s"
        if self.step:
            outcome = REUSED if self.last == REUSED else ended
            self._shown.end(self.step, *self._number(), outcome, self._decided(self.step) if success else "")
        # Until the next step starts, KFP prints only messages of its own.
        self.step, self.ended = None, self.step

    def _decided(self, step: str) -> str:
        metrics = task_folders(self._root, [step]).get(step, self._root) / METRICS
        try:
            return decided(step, read_json(metrics))
        except (GraftError, KeyError):  # a step of another pipeline, or metrics of another form
            return ""

    def _number(self) -> tuple[int, int]:
        at = self._steps.index(self.step) + 1 if self.step in self._steps else 0
        return at, len(self._steps)


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the steps, and restore the old values afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
