"""The review queue of suspected label errors, a CSV with one row per image that a person edits.

Columns: of several tasks `task`, the one that the row is about; `path` and `label` (the image and its current label),
`suggested` and `score` (the proposed label and how certain the check is), `decision` and `new_label` (filled in by the
reviewer). A decision is

- empty: not reviewed, the label stays;
- `keep`: reviewed, the label is correct; if `label` is empty, the suggested one is;
- `relabel`: the label becomes `new_label`, or `suggested` if `new_label` is empty.

A queue of images that have no label yet (see `labelling`) leaves `label` empty in all rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from graft.core.csv_table import read_csv
from graft.core.errors import DataError
from graft.core.text_forms import one_form

TASK_COLUMN = "task"
QUEUE_COLUMNS = ("path", "label", "suggested", "score", "decision", "new_label")
DECISIONS = ("", "keep", "relabel")
Decision = Literal["", "keep", "relabel"]


@dataclass(frozen=True)
class Review:
    """One row of the queue; `new_label` is the label that the image gets."""

    line: int
    path: str
    label: str
    decision: Decision
    new_label: str
    task: str = ""
    """The column that it is about; empty if there is one task."""
    suggested: str = ""


def read_queue(file: Path) -> list[Review]:
    """Read a reviewed queue; other columns are ignored.

    Raises:
        DataError: if the file is missing, is not a CSV in UTF-8 or lacks a column, a decision is unknown, a new label
            is missing, or an image appears twice with different decisions.
    """
    if not file.exists():
        raise DataError(f"{file}: no such file; a run writes its queue to outputs/review/queue.csv")
    table = read_csv(file)
    table.require(("path", "label", "decision"), f"expected {', '.join(QUEUE_COLUMNS)}")
    reviews: dict[tuple[str, str], Review] = {}
    for line, row in table.records():
        review = _review(row, line, file)
        first = reviews.setdefault((review.task, review.path), review)
        if (first.decision, first.new_label) != (review.decision, review.new_label):
            raise DataError(
                f"{file}: lines {first.line} and {review.line} have different decisions for {review.path!r}"
            )
    return list(reviews.values())


def _review(row: Mapping[str, str], line: int, file: Path) -> Review:
    decision = row["decision"].strip().lower()
    if decision not in DECISIONS:
        raise DataError(f"{file}: line {line}: decision {decision!r}; expected keep, relabel or an empty cell")
    path, label = row["path"], one_form(row["label"])
    suggested, new_label = one_form(row.get("suggested", "").strip()), label
    if decision == "relabel" or (decision == "keep" and not label):
        new_label = (one_form(row.get("new_label", "").strip()) if decision == "relabel" else "") or suggested
        if not new_label:
            raise DataError(f"{file}: line {line}: {decision} without a new_label; fill it in")
    return Review(line, path, label, cast(Decision, decision), new_label, row.get(TASK_COLUMN, ""), suggested)
