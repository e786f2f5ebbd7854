"""The first labels of images that had none: the decisions in a queue become rows of their folder's manifest.

`predict` lists images that are worth a label in such a queue (see `labelling`); in it the column `label` is empty.
"""

import difflib
from collections.abc import Collection, Sequence
from pathlib import Path

from graft.core.csv_table import CsvTable, Dialect
from graft.core.errors import DataError
from graft.data.label_queue import Review
from graft.data.manifest import MANIFEST, manifests_in, read_manifest
from graft.data.records import Problem
from graft.data.safe_paths import check_path

COLUMNS = ("path", "label")


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
    table = read_manifest(file).table if file.is_file() else CsvTable(file, COLUMNS, (), (), Dialect())
    missing = [name for name in COLUMNS if name not in table.columns]
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
