"""Write the counts of runs into docs/reliability.md: `python -m tests.faults.table results.jsonl...`.

A row stays if the run that wrote it tried more of that fault than these runs, and these lost none: the short form of
the tests does not hide the long one.
"""

import json
import re
import sys
from pathlib import Path

TOTAL = "**all**"
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BLOCK = re.compile(r"(<!-- faults -->\n).*?(<!-- /faults -->)", re.DOTALL)


def rows(lines: list[str]) -> dict[str, tuple[int, int]]:
    """Return how many faults of each kind were tried and how many survived, in the order of the first of each."""
    found: dict[str, tuple[int, int]] = {}
    for line in lines:
        entry = json.loads(line)
        tried, survived = found.get(entry["fault"], (0, 0))
        found[entry["fault"]] = (tried + entry["tried"], survived + entry["survived"])
    return found


def known(page: str) -> dict[str, tuple[int, int]]:
    """Return what a page says: tried and survived by fault."""
    block = BLOCK.search(page)
    cells = [line.strip("| ").split(" | ") for line in block[0].splitlines() if line.startswith("| ")] if block else []
    counts = {fault: (int(tried.replace(",", "")), int(survived.replace(",", ""))) for fault, tried, survived, _ in
              (row for row in cells if len(row) == 4 and row[1][:1].isdigit())}  # fmt: skip
    return {fault: count for fault, count in counts.items() if fault != TOTAL}


def merged(before: dict[str, tuple[int, int]], now: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Return for each fault the run that tried most of it, unless a later one lost something."""
    found = dict(before)
    for fault, (tried, survived) in now.items():
        if survived < tried or tried >= before.get(fault, (0, 0))[0] or before[fault][0] != before[fault][1]:
            found[fault] = (tried, survived)
    return found


def table(found: dict[str, tuple[int, int]]) -> str:
    """Return it as Markdown."""
    head = ["| fault | tried | survived | lost |", "|---|--:|--:|--:|"]
    body = [
        f"| {fault} | {tried:,} | {survived:,} | {tried - survived:,} |"
        for fault, (tried, survived) in sorted(found.items())
    ]
    total = [sum(column) for column in zip(*found.values(), strict=True)]
    return "\n".join([*head, *body, f"| {TOTAL} | {total[0]:,} | {total[1]:,} | {total[0] - total[1]:,} |"]) + "\n"


def main() -> None:
    """Replace the table between the two comments."""
    lines = [line for file in sys.argv[1:] for line in Path(file).read_text(encoding="utf-8").splitlines()]
    page = PAGE.read_text(encoding="utf-8")
    found = merged(known(page), rows(lines))
    PAGE.write_text(BLOCK.sub(rf"\g<1>{table(found)}\g<2>", page), encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
