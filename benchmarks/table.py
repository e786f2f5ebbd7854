"""Generate docs/benchmarks.md from the measured numbers."""

import json
from pathlib import Path
from typing import Any

TITLES = {
    "run_demo": "A whole run: the demo",
    "run_photos": "A whole run: photos of ants and bees",
    "run_few": "A whole run: almost nothing",
    "many_classes": "Many classes",
    "validation": "Validating data",
    "near_duplicates": "Finding near-duplicates",
    "decode": "Decoding",
    "forward": "The frozen backbone",
    "extraction": "Extraction",
    "loops": "A head on frozen features",
    "staged": "Staged training on cached activations",
    "frozen_epoch": "One epoch, against fastai",
    "fine_tuning": "A full training, against fastai",
    "reruns": "Running an unchanged step again",
    "memory": "Memory",
    "serving": "Serving",
    "accuracy": "Accuracy",
    "backbones": "Accuracy with other backbones",
    "choices": "Groups chosen in closed form",
    "tuning": "Recipes of a stage",
}
HEAD = """# Benchmarks

`make bench` generates this page from `docs/benchmarks.json`; do not edit it. The variants of a comparison ran in turn,
in one run on one machine. Trust the ratios more than the times, above all where the load exceeds the number of cores:
other programs were running then. Values are medians over the rounds. Brackets hold the interquartile range, or for
accuracies the range over the seeds.
"""


def write_table(numbers: Path, page: Path) -> None:
    """Write the page."""
    content = json.loads(numbers.read_text(encoding="utf-8"))
    parts = [HEAD]
    for name, title in TITLES.items():
        if name in content:
            parts.append(_section(title, content[name]))
    page.write_text("\n".join(parts), encoding="utf-8")


def _section(title: str, content: dict[str, Any]) -> str:
    lines = [
        f"## {title}",
        "",
        f"{content['machine']}, {content['rounds']} rounds, load {content['load']:g}, {content['measured']}.",
        "",
    ]
    lines += ["| what | measured | goal | |", "|---|---|---|---|"]
    for result in content["results"]:
        value = result["value"]
        spread = f" ({_number(value['low'])} to {_number(value['high'])})" if value["low"] != value["high"] else ""
        measured = f"**{_number(value['median'])}**{' ' if result['unit'] else ''}{result['unit']}{spread}"
        mark = {None: "", True: "✓", False: "missed"}[result["reached"]]
        goal = " ".join(part for part in (result["goal"], mark) if part)
        lines.append(f"| {result['what']} | {measured} | {goal} | {result['note']} |")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
