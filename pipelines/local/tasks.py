"""The tasks of a local run: what KFP's subprocess runner would start, and a way to start it differently."""

import json
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.core.atomic import write_text
from graft.runs.step import ERROR_FILE

_BY_SIGNAL = 128
OUTPUT_FILE = "executor_output.json"
"""KFP's record of a task's outputs, in the task's folder."""


@dataclass(frozen=True)
class Task:
    """One task, read from KFP's command: a shell script, the component's source, and options of KFP's executor."""

    command: Sequence[str]
    environment: Mapping[str, str]
    """Variables of the task beside those of this process."""

    @property
    def source(self) -> str:
        """Return the Python source of the component."""
        return self.command[3]

    @property
    def options(self) -> list[str]:
        """Return the options of `kfp.dsl.executor_main`."""
        return list(self.command[4:])

    @property
    def step(self) -> str:
        """Return the name of the step."""
        return self.options[self.options.index("--function_to_execute") + 1]

    @property
    def params(self) -> dict[str, Any]:
        """Return the step's parameters; numbers are floats."""
        return dict(self._executor_input["inputs"].get("parameterValues", {}).get("params", {}))

    @property
    def inputs(self) -> dict[str, list[Path]]:
        """Return the paths of each input."""
        return _paths(self._executor_input["inputs"])

    @property
    def outputs(self) -> dict[str, Path]:
        """Return the path of each output."""
        return {name: path for name, (path,) in _paths(self._executor_input["outputs"]).items()}

    @property
    def folder(self) -> Path:
        """Return the folder of the task's outputs."""
        return Path(self._executor_input["outputs"]["outputFile"]).parent

    @property
    def _executor_input(self) -> dict[str, Any]:
        return dict(json.loads(self.options[self.options.index("--executor_input") + 1]))


def _paths(ports: Mapping[str, Any]) -> dict[str, list[Path]]:
    artifacts = ports.get("artifacts", {})
    return {name: [Path(one["uri"]) for one in value["artifacts"]] for name, value in artifacts.items()}


def _say_what_ended(task: Task, number: int) -> None:
    """Write the cause of a step that was ended before it could say anything."""
    file = task.folder / ERROR_FILE
    if file.exists():
        return
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    why = (
        "most often because the machine had no memory left: lower batch_size and workers, or end other programs"
        if number == signal.SIGKILL
        else "see the full output in run.log"
    )
    write_text(file, f"{task.step}: was ended by {name}, {why}; a rerun goes on from the last finished step\n")


Start = Callable[[Task], int]
"""Starts a task, prints its output, waits for it, and returns its exit code."""


@contextmanager
def starting(choose: Callable[[Start], Start]) -> Iterator[None]:
    """Make KFP's subprocess runner start tasks with what `choose` returns, given the runner's own way."""
    from kfp.local import subprocess_task_handler

    before = subprocess_task_handler.run_local_subprocess

    def plain(task: Task) -> int:
        # KFP's script makes a temporary folder for the component's source and leaves it there.
        with tempfile.TemporaryDirectory(prefix="graft-task-") as folder:
            command = [part.replace("$(mktemp -d)", folder) for part in task.command[:3]] + list(task.command[3:])
            return int(before(command, dict(task.environment)))

    start = choose(plain)

    def run(full_command: Sequence[str], env_vars: Mapping[str, str] | None = None) -> int:
        task = Task(full_command, env_vars or {})
        code = start(task)
        if code < 0 or code > _BY_SIGNAL:  # as Python and as a shell report it
            _say_what_ended(task, -code if code < 0 else code - _BY_SIGNAL)
        return code

    subprocess_task_handler.run_local_subprocess = run
    try:
        yield
    finally:
        subprocess_task_handler.run_local_subprocess = before
