"""What is shown while the steps run: a bar with the time left in a terminal, plain lines elsewhere."""

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

SECONDS: Mapping[str, float] = MappingProxyType(
    {
        "get_data": 4,
        "validate_data": 8,
        "extract_features": 15,
        "train_head": 12,
        "review_features": 5,
        "fine_tune": 45,
        "evaluate": 12,
        "register_model": 8,
    }
)
"""Seconds of the steps of the demo on two cores, without an earlier run to go by: only their shares matter."""
QUIET_SECONDS = 60.0
_PERIODIC = re.compile(r"\b(\d+)/(\d+)\b.*(/s\b|loss |, epoch|epoch )|epoch (\d+)/(\d+)")
_READING = ": read as "
"""How the images are read: the look before the run has said that."""
_DONE = re.compile(r"\b(\d+)/(\d+)\b")


class Shown(Protocol):
    """Is told what happens in a run."""

    def start(self, step: str, number: int, steps: int) -> None:
        """A step begins; `number` counts from 1."""

    def say(self, line: str) -> None:
        """The step has printed a line."""

    def end(self, step: str, number: int, steps: int, outcome: str, decided: str) -> None:
        """A step has ended: how, such as `done in 3.1 s`, and what it decided, if anything."""


class PlainLines:
    """One line when a step begins and one when it ends; what it says in between, once, and progress once a minute."""

    def __init__(self, write: Callable[[str], None], quiet_seconds: float = QUIET_SECONDS) -> None:
        self._write = write
        self._quiet = quiet_seconds
        self._last = 0.0
        self._said: set[str] = set()

    def start(self, step: str, number: int, steps: int) -> None:
        """Write the step's number and name."""
        self._said.clear()
        self._last = time.monotonic()
        self._write(f"[{number}/{steps}] {step}")

    def say(self, line: str) -> None:
        """Write a line unless it repeats another; of those that only count, one a minute."""
        if _PERIODIC.search(line):
            if time.monotonic() - self._last < self._quiet:
                return
            self._last = time.monotonic()
        elif line in self._said:
            return
        self._said.add(line)
        self._write(f"      {line}")

    def end(self, step: str, number: int, steps: int, outcome: str, decided: str) -> None:
        """Write how the step ended."""
        self._write(f"[{number}/{steps}] {step}: {outcome}" + (f": {decided}" if decided else ""))


class Bar:
    """One bar for the whole run, with the time left, and above it one line for each step with what was decided."""

    def __init__(self, progress: Progress, steps: Sequence[str], seconds: Mapping[str, float]) -> None:
        self._progress = progress
        self._expected = {step: max(0.1, seconds.get(step, 5.0)) for step in steps}
        self._total = sum(self._expected.values())
        self._task = progress.add_task("", total=self._total, left="")
        self._before = 0.0
        self._step = ""
        self._started = time.monotonic()

    def start(self, step: str, number: int, steps: int) -> None:
        """Name the step beside the bar."""
        self._step = step
        self._show(0.0, step)

    def say(self, line: str) -> None:
        """Move the bar by lines that count; of the others, show what a person should know."""
        line = line.removeprefix(f"{self._step}: ")
        counted = _DONE.search(line)
        if _PERIODIC.search(line) and counted:
            done, of = int(counted[1]), max(1, int(counted[2]))
            self._show(min(1.0, done / of), f"{self._step}: {line.split(',')[0]}")
        elif _READING not in line:
            self._progress.console.print(f"  [dim]{_escaped(line)}[/]", highlight=False, soft_wrap=True)

    def end(self, step: str, number: int, steps: int, outcome: str, decided: str) -> None:
        """Write the step's line, and move the bar to its end."""
        mark = "[red]✕[/]" if outcome.startswith("failed") else "[green]✓[/]"
        text = f"{mark} {step:17} {_escaped(decided or outcome)}"
        self._progress.console.print(f"{text} [dim]{outcome if decided else ''}[/]", highlight=False, soft_wrap=True)
        self._before += self._expected.get(step, 0.0)
        self._step = ""
        self._show(0.0, "")

    def _show(self, fraction: float, text: str) -> None:
        done = self._before + fraction * self._expected.get(self._step, 0.0)
        elapsed = time.monotonic() - self._started
        # Early on the expectation tells more than a few seconds of this run: it counts as a fifth of the run.
        prior = 0.2 * self._total
        pace = (elapsed + prior) / (done + prior)
        left = f"about {_duration(pace * (self._total - done))} left" if done < self._total else ""
        self._progress.update(self._task, completed=done, description=text, left=left)


@contextmanager
def showing(steps: Sequence[str], seconds: Mapping[str, float] = SECONDS) -> Iterator[Shown]:
    """Yield what shows a run on standard error: a bar if that is a terminal, else plain lines.

    Args:
        steps: names of the steps, in order.
        seconds: that each is expected to take.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield PlainLines(print_progress)
        return
    columns = (
        TextColumn("{task.description:48.48}"),
        BarColumn(24),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]}"),
    )
    # The runner has standard output of its own; a bar that took it over would take it from the runner.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as progress:
        yield Bar(progress, steps, seconds)


def print_progress(line: str) -> None:
    """Print a line on standard error at once."""
    print(line, file=sys.stderr, flush=True)


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5)):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
