"""The progress of a run in Python: a value for each line, and a bar in a notebook."""

import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

_STEP = re.compile(r"\[(\d+)/(\d+)\] (\w+)(?:: (.*))?$")


@dataclass(frozen=True)
class Progress:
    """One line that a run says, and where the run is."""

    done: int
    """Steps that have ended."""
    steps: int
    """Steps in all."""
    step: str
    """The step that the line is about."""
    line: str
    """The line, as the command prints it."""

    @property
    def fraction(self) -> float:
        """Return the share of the steps that have ended, from 0 to 1."""
        return self.done / self.steps if self.steps else 0.0


Report = Callable[[Progress], None]
"""Receives the progress of a run, in the thread that runs it; what it raises ends the run."""


def following(report: Report) -> Callable[[str], None]:
    """Return what takes the lines of a run and tells `report` about them."""
    state, output = Progress(0, 0, "", ""), sys.stdout

    def take(line: str) -> None:
        nonlocal state
        found = _STEP.match(line)
        if found:
            number, steps, step, ended = int(found[1]), int(found[2]), found[3], found[4]
            state = Progress(number if ended else number - 1, steps, step, line)
        else:
            state = Progress(state.done, state.steps, state.step, line.strip())
        with redirect_stdout(output):  # while a pipeline runs, what is printed counts as a line of a step
            report(state)

    return take


class _Handle(Protocol):
    def update(self, content: Any) -> None: ...


def default_report() -> Report:
    """Return a bar where a notebook runs this, and elsewhere what prints each line to standard error."""
    handle = _notebook_display()
    return _Bar(handle) if handle else _print


def _print(progress: Progress) -> None:
    print(progress.line, file=sys.stderr, flush=True)


def _notebook_display() -> _Handle | None:
    """Return a display of the notebook that can be updated; None outside of notebooks, where nothing is imported."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display  # only a notebook gets here

    show: Any = display
    handle: _Handle = show(_Html(""), display_id=True)
    return handle


@dataclass(frozen=True)
class _Html:
    content: str

    def _repr_html_(self) -> str:
        return self.content

    def __repr__(self) -> str:
        return ""


class _Bar:
    """One bar over all steps, with the step that runs and what it last said."""

    def __init__(self, handle: _Handle) -> None:
        self._handle = handle

    def __call__(self, progress: Progress) -> None:
        said = progress.line if progress.done < progress.steps else "done"
        self._handle.update(
            _Html(
                f"<progress max='{progress.steps}' value='{progress.done}'></progress> "
                f"<code>{escape(said)[:150]}</code>"
            )
        )
