"""The review queue of suspected or missing labels, a CSV with one row per image that a person edits.

Columns: of several tasks `task`, the one that the row is about; `path` and `label` (the image and its current label),
`suggested` and `score` (the proposed label and how certain the check is), `decision` and `new_label` (filled in by the
reviewer). A decision is

- empty: not reviewed, the label stays;
- `keep`: reviewed, the label is correct; if `label` is empty, the suggested one is;
- `relabel`: the label becomes `new_label`, or `suggested` if `new_label` is empty.

A queue of images that have no label yet (see `labelling`) leaves `label` empty in all rows; the decided ones become
rows of their folder's manifest.
"""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from graft.core.csv_table import CsvTable, Dialect, read_csv
from graft.core.errors import DataError
from graft.core.text_forms import one_form
from graft.data.manifest import MANIFEST, manifests_in, read_manifest
from graft.data.records import Problem
from graft.data.safe_paths import check_path

TASK_COLUMN = "task"
QUEUE_COLUMNS = ("path", "label", "suggested", "score", "decision", "new_label")
MANIFEST_COLUMNS = ("path", "label")
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


def write_first_labels(data: Path, reviews: Sequence[Review], queue: Path, *, new_classes: bool) -> tuple[int, int]:
    """Write the decided labels into `manifest.csv` in the images' folder; return how many there are, and are new.

    The images stay where they are. Those that nobody has decided on are no rows, so the folder can be learnt from.

    Args:
        data: the folder that the queue's paths are relative to.
        reviews: the rows of the queue.
        queue: its file, for messages.
        new_classes: whether a label may be one that the model has suggested for no image of the queue.

    Raises:
        DataError: if a row does not fit the folder; then nothing is changed.
    """
    if not data.is_dir():
        raise DataError(f"{data}: no such folder; give the folder of the images without labels: --data")
    others = [file.name for file in manifests_in(data) if file != data / MANIFEST]
    if others:
        raise DataError(f"{data}: {others[0]} lists its images; add the labels there")
    file = data / MANIFEST
    table = read_manifest(file).table if file.is_file() else CsvTable(file, MANIFEST_COLUMNS, (), (), Dialect())
    missing = [name for name in MANIFEST_COLUMNS if name not in table.columns]
    if missing:
        raise DataError(f"{file}: no column {missing[0]!r}; rename its columns to path and label")
    known = dict(zip(table.values("path"), table.values("label"), strict=True))
    labels = {*known.values(), *(review.suggested for review in reviews)} - {""}
    added = []
    for review in reviews:
        if review.decision:
            _check(review, data, known, labels, queue, new_classes=new_classes)
            if review.path not in known:
                added.append(
                    tuple({"path": review.path, "label": review.new_label}.get(name, "") for name in table.columns)
                )
    rows = (*table.rows, *added)
    if added:
        CsvTable(file, table.columns, rows, tuple(range(2, len(rows) + 2)), table.dialect).write(file)
    return sum(bool(review.decision) for review in reviews), len(added)


def labelled_paths(folder: Path) -> frozenset[str]:
    """Return the paths of the images that the folder's manifest gives a label."""
    file = folder / MANIFEST
    if not file.is_file():
        return frozenset()
    manifest = read_manifest(file)
    pairs = zip(manifest.values("path"), manifest.values("label"), strict=True)
    return frozenset(path for path, label in pairs if label)


def _check(
    review: Review, data: Path, known: dict[str, str], labels: Collection[str], queue: Path, *, new_classes: bool
) -> None:
    where = f"{queue}: line {review.line}"
    found = check_path(data, data / review.path)
    if isinstance(found, Problem):
        raise DataError(f"{where}: no image {review.path!r} in {data}; the queue is of another folder")
    if known.get(review.path, review.new_label) != review.new_label:
        raise DataError(
            f"{where}: {review.path!r} is labelled {known[review.path]!r} in {data / MANIFEST} already; change it there"
        )
    if review.new_label not in labels and not new_classes:
        close = difflib.get_close_matches(review.new_label, sorted(labels), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"suggested: {', '.join(sorted(labels))}"
        raise DataError(
            f"{where}: label {review.new_label!r} was suggested for no image; {hint} (--new-classes allows it)"
        )
