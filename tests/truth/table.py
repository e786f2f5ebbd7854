"""Writes the table of promises into docs/evaluation.md: `python -m tests.truth.table`."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from tests.truth.promise import Promise

FILES = (
    "intervals",
    "comparisons",
    "calibration",
    "abstaining",
    "refitting",
    "drifting",
    "label_errors",
    "shifts",
    "splits",
    "stages",
    "gate",
)
"""Modules of promises, in the order of the table."""
PAGE = Path(__file__).parents[2] / "docs/evaluation.md"
BLOCK = re.compile(r"(?<=<!-- promises -->\n).*?(?=<!-- /promises -->)", re.DOTALL)
HEAD = "| promise | simulated | allowed | held |\n|---|---|---|---|\n"


def promises() -> Iterator[Promise]:
    """Yield every promise, in the order of the table."""
    for name in FILES:
        yield from importlib.import_module(f"tests.truth.{name}").PROMISES


def row(promise: Promise, rate: float) -> str:
    """Return a promise's line of the table."""
    allowed = f"{100 * promise.least:.1f} to {100 * promise.most:.1f} %"
    return f"| {promise.says} | {promise.tried} | {allowed} | {100 * rate:.1f} % |\n"


def main() -> None:
    """Run all simulations and write the table."""
    table = HEAD + "".join(row(promise, promise.rate()) for promise in promises())
    PAGE.write_text(BLOCK.sub(lambda _: table, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
