"""Timing that is robust on a busy machine: the candidates run in turn, and their medians are compared."""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from graft.core.cpu import available_cores

Clock = Literal["wall", "cpu"]
_CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Spread:
    """The median of several measurements and their interquartile range."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Summarise one or more values."""
        if len(values) < 3:
            return cls(statistics.median(values), min(values), max(values))
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(statistics.median(values), low, high)


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    what: str
    value: Spread
    unit: str
    goal: str = ""
    reached: bool | None = None
    note: str = ""


def in_turn(
    candidates: Mapping[str, Callable[[], object]], rounds: int, clock: Clock = "wall"
) -> dict[str, list[float]]:
    """Return the seconds each candidate took in every round; the first round warms up and is not counted."""
    now = _CLOCKS[clock]
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for round_number in range(rounds + 1):
        for name, call in candidates.items():
            start = now()
            call()
            if round_number:
                seconds[name].append(now() - start)
    return seconds


def ratio(slow: list[float], fast: list[float]) -> Spread:
    """Return how many times longer the first took, round by round."""
    return Spread.of([a / b for a, b in zip(slow, fast, strict=True)])


def at_least(what: str, value: Spread, goal: float, unit: str = "x", note: str = "") -> Result:
    """A result that should reach `goal`."""
    return Result(what, value, unit, f"≥ {goal:g}", value.median >= goal, note)


def at_most(what: str, value: Spread, goal: float, unit: str, note: str = "") -> Result:
    """A result that should not exceed `goal`."""
    return Result(what, value, unit, f"≤ {goal:g}", value.median <= goal, note)


def save(file: Path, name: str, results: list[Result], rounds: int) -> None:
    """Save the results of one benchmark in the file, which keeps those of the others."""
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    content[name] = {
        "machine": machine(),
        "rounds": rounds,
        "load": round(os.getloadavg()[0], 1),
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "results": [asdict(result) for result in results],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def machine() -> str:
    """Return cores and processor of this machine."""
    try:
        lines = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout.splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("Model name"))
    except (OSError, StopIteration, subprocess.CalledProcessError):
        model = platform.processor() or platform.machine()
    return f"{available_cores()} cores of {model}"
