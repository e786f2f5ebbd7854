"""python -m benchmarks.profile: draw where the time of a run of the demo goes, as flame graphs for docs/speed.md.

py-spy looks at every process of the run 25 times a second, from outside. Frames that are seen in less than 0.4 % of the
samples are left out, and what lies very deep, so that the pictures stay small.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.data import ROOT

PICTURES = ROOT / "docs" / "images"
STEPS = ("train_head", "fine_tune", "evaluate")
"""Steps with a picture of their own."""
LEAST = 0.004
ROW, WIDTH, LETTER = 16, 1200, 6.6
_COLOURS = {"graft": "#e8743b", "components": "#e8743b", "torch": "#f0c04a", "timm": "#f0c04a", "mlflow": "#6baed6"}
_OTHER = "#d9d3c7"
_PLUMBING = ("(<frozen ", "(importlib/", "(threading.py", "(concurrent/futures/", "(contextlib.py")
"""Functions between two functions of interest."""
DEEPEST = 24


class Frame:
    """One function, as called from its parent: how many samples it was seen in, and what it called."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.samples = 0
        self.calls: dict[str, Frame] = {}

    def add(self, stack: list[str], samples: int) -> None:
        """Add a stack, outermost function first."""
        self.samples += samples
        if stack:
            self.calls.setdefault(stack[0], Frame(stack[0])).add(stack[1:], samples)

    def depth(self, least: float) -> int:
        """Return the number of rows of its picture."""
        return 1 + max((call.depth(least) for call in self.calls.values() if call.samples >= least), default=0)


def main() -> None:
    """Run the demo under py-spy and write the pictures."""
    with tempfile.TemporaryDirectory(prefix="graft-profile-") as folder:
        stacks = _record(Path(folder))
    whole = Frame("make run")
    steps = {name: Frame(name) for name in STEPS}
    owners = {_process(stack): step for stack in stacks for step in _steps_in(stack)}
    for stack, samples in stacks.items():
        step = owners.get(_process(stack), "imports, KFP")
        calls = _shortened(stack)
        whole.add([step, *calls], samples)
        if step in steps:
            steps[step].add(calls, samples)
    for name, frame in {"run": whole, **steps}.items():
        file = PICTURES / f"profile-{name}.svg"
        file.write_text(picture(frame), encoding="utf-8")
        print(f"{file.relative_to(ROOT)}: {frame.samples / 25:.0f} s of processor time")


def _record(folder: Path) -> Counter[tuple[str, ...]]:
    from graft.demo.demo_digits import write_demo

    write_demo(folder / "digits")
    raw = folder / "stacks.txt"
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "GRAFT_CACHE": str(folder / "cache"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
    }
    command = ["py-spy", "record", "--subprocesses", "--function", "--rate", "25", "--format", "raw"]
    command += ["--output", str(raw), "--", sys.executable, "-m", "pipelines.cli", "run"]
    command += ["--data", str(folder / "digits"), "--out", str(folder / "out")]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in raw.read_text(encoding="utf-8").splitlines():
        stack, samples = line.rsplit(" ", 1)
        stacks[tuple(stack.split(";"))] += int(samples)
    return stacks


def _process(stack: tuple[str, ...]) -> str:
    """Return the process of a stack; before it stand those that started it."""
    return [call for call in stack if call.startswith("process ")][-1]


def _steps_in(stack: tuple[str, ...]) -> list[str]:
    """Return the step whose function is in the stack; a step's further threads do not name it."""
    found = [re.search(r"^(\w+) \(\S*components/\1/step\.py", call) for call in stack]
    return [match[1] for match in found if match]


def _shortened(stack: tuple[str, ...]) -> list[str]:
    """Return the calls from the step's function on, each with its file relative to its package."""
    calls = [call for call in stack if not call.startswith("process ")]
    start = next((place for place, call in enumerate(calls) if "components/" in call), 0)
    named = [call.replace(f"{ROOT}/", "").rsplit("site-packages/", 1)[-1] for call in calls[start:]]
    return [call for call in named if not any(part in call for part in _PLUMBING)][:DEEPEST]


def picture(root: Frame) -> str:
    """Return a flame graph as SVG, callers above what they call; hovering shows the whole name and the share."""
    least = LEAST * root.samples
    height = ROW * root.depth(least)
    box = f'viewBox="0 0 {WIDTH} {height}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="10">']

    def draw(frame: Frame, left: float, row: int) -> None:
        width = WIDTH * frame.samples / root.samples
        name = frame.name.split(" (")[0]
        text = name[: int(width / LETTER)] if width > 3 * LETTER else ""
        package = frame.name.split("(")[-1].split("/")[0]
        title = f"{frame.name}: {100 * frame.samples / root.samples:.1f} %"
        parts.append(
            f'<g><title>{_escaped(title)}</title><rect x="{left:.1f}" y="{ROW * row}" width="{width:.1f}" '
            f'height="{ROW - 1}" fill="{_COLOURS.get(package, _OTHER)}"/>'
            f'<text x="{left + 2:.1f}" y="{ROW * row + 11}">{_escaped(text)}</text></g>'
        )
        for call in sorted(frame.calls.values(), key=lambda call: call.name):
            if call.samples >= least:
                draw(call, left, row + 1)
                left += WIDTH * call.samples / root.samples

    draw(root, 0.0, 0)
    return "\n".join([*parts, "</svg>", ""])


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


if __name__ == "__main__":
    main()
