"""Write the counts of the last run into docs/reliability.md: `python -m tests.faults.table results.jsonl`."""

import json
import re
import sys
from pathlib import Path

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


def table(found: dict[str, tuple[int, int]]) -> str:
    """Return it as Markdown."""
    head = ["| fault | tried | survived | lost |", "|---|--:|--:|--:|"]
    body = [
        f"| {fault} | {tried:,} | {survived:,} | {tried - survived:,} |"
        for fault, (tried, survived) in sorted(found.items())
    ]
    total = [sum(column) for column in zip(*found.values(), strict=True)]
    return "\n".join([*head, *body, f"| **all** | {total[0]:,} | {total[1]:,} | {total[0] - total[1]:,} |"]) + "\n"


def main() -> None:
    """Replace the table between the two comments."""
    found = rows(Path(sys.argv[1]).read_text(encoding="utf-8").splitlines())
    PAGE.write_text(BLOCK.sub(rf"\g<1>{table(found)}\g<2>", PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
