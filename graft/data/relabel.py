"""Apply a reviewed queue of label errors as a new version of the data, with its own DVC digest.

    python -m graft.data.relabel queue.csv [--data data/digits]

Class folders: an image moves to the folder of its new label. Manifest: its row gets the new label. Images without any
label: the decided ones get rows. The new state replaces the old one at once or not at all, no image is
ever removed, and DVC keeps the previous version.
"""

import difflib
import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer
from dvc.exceptions import DvcException
from dvc.repo import Repo

from graft.core.atomic import replacing, write_text
from graft.core.csv_table import CsvTable
from graft.core.digest import folder_digest
from graft.core.errors import DataError, GraftError
from graft.data.label_queue import Review, read_queue, write_first_labels
from graft.data.listing import list_images
from graft.data.manifest import ONE_LABEL, Manifest, manifests_in, read_manifest
from graft.data.readings import Layout
from graft.data.records import Listing
from graft.data.safe_paths import is_file, is_link
from graft.params.params import Params
from graft.tasks.columns import TaskColumn, task_columns
from graft.tasks.tag_cells import SEPARATOR


@dataclass(frozen=True)
class Relabelled:
    """The result of applying a queue; counts are numbers of images.

    Attributes:
        moved: the new path of each moved image, by its old path.
        version: DVC's digest of the new version; None if DVC does not track the data.
    """

    relabelled: int
    kept: int
    unreviewed: int
    moved: Mapping[str, str]
    version: str | None


def relabel(
    queue: Path,
    data: Path,
    *,
    new_classes: bool = False,
    layout: Layout = "auto",
    label_level: int | None = None,
    tasks: Sequence[TaskColumn] = ONE_LABEL,
) -> Relabelled:
    """Apply the reviewed `queue` to `data`, a folder or a CSV manifest, and record the new version if DVC tracks it.

    Args:
        queue: a CSV as `graft.data.label_queue` reads it.
        data: the folder or manifest that the queue was made from.
        new_classes: whether a new label may be one that no image has yet.
        layout: how a folder is read, as `list_images` takes it.
        label_level: see `layout`.
        tasks: the columns of a manifest that are learnt; a queue of several names the one of each row.

    Raises:
        DataError: if the queue does not fit the data; then nothing is changed.
    """
    reviews = read_queue(queue)
    if reviews and not any(review.label for review in reviews):
        decided, added = write_first_labels(data, reviews, queue, new_classes=new_classes)
        return Relabelled(added, decided - added, len(reviews) - decided, {}, _record(data) if added else None)
    changes = [review for review in reviews if review.decision == "relabel" and review.new_label != review.label]
    moved: dict[str, str] = {}
    manifests = _manifests_of(data, tasks)
    if manifests:
        by_task = _by_task(changes, tasks, queue)
        for task, of_task in by_task.items():
            _check(of_task, _labels(manifests, task), queue, new_classes)
        for task, of_task in by_task.items():
            wanted = {review.path: review.new_label for review in of_task}
            for prefix, manifest in _manifests_of(data, tasks).items():  # the file has changed for an earlier task
                _rewrite(manifest, prefix, wanted, _own_column(manifest, task))
    else:
        listing = list_images(data, layout, label_level)
        _check(changes, {record.path: record.label for record in listing.records}, queue, new_classes)
        if changes:
            moved = _targets(data, listing, changes, queue)
            _rearrange(data, moved)
    return Relabelled(
        relabelled=len(changes),
        kept=sum(review.decision == "keep" for review in reviews),
        unreviewed=sum(review.decision == "" for review in reviews),
        moved=moved,
        version=_record(data),
    )


def _check(changes: Collection[Review], labels: Mapping[str, str], queue: Path, new_classes: bool) -> None:
    known = sorted(set(labels.values()))
    for review in changes:
        where = f"{queue}: line {review.line}"
        if review.path not in labels:
            raise DataError(f"{where}: no image {review.path!r} in the data; the queue is from another version of it")
        if labels[review.path] != review.label:
            raise DataError(
                f"{where}: {review.path!r} is labelled {labels[review.path]!r}, not {review.label!r}; "
                "the queue is from another version of the data"
            )
        if not _parts(review.new_label) <= {part for label in known for part in _parts(label)} and not new_classes:
            close = difflib.get_close_matches(review.new_label, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise DataError(
                f"{where}: no image has the label {review.new_label!r} yet; {hint} (--new-classes allows it)"
            )


def _parts(label: str) -> set[str]:
    """Return the labels of tags, which may be new together; any other label is one."""
    return set(label.split(SEPARATOR))


def _by_task(changes: Sequence[Review], tasks: Sequence[TaskColumn], queue: Path) -> dict[TaskColumn, list[Review]]:
    """Return the changes of each task; without a name they are of the first.

    Raises:
        DataError: if a row is about another task.
    """
    named = {"": tasks[0], **{task.name: task for task in tasks}}
    found: dict[TaskColumn, list[Review]] = {tasks[0]: []}
    for review in changes:
        if review.task not in named:
            known = ", ".join(task.name for task in tasks)
            raise DataError(f"{queue}: line {review.line}: no task {review.task!r}; validate_data.labels are {known}")
        found.setdefault(named[review.task], []).append(review)
    return found


def _own_column(manifest: Manifest, task: TaskColumn) -> str:
    """Return the user's name of a task's column."""
    return manifest.named["label"] if task.column == "label" else task.name


def _manifests_of(data: Path, tasks: Sequence[TaskColumn]) -> dict[str, Manifest]:
    """Return the manifests of the data by what their paths lack."""
    if data.is_dir():
        return {_prefix(file, data): read_manifest(file, tasks=tasks) for file in manifests_in(data)}
    if data.is_file():
        return {"": read_manifest(data, tasks=tasks)}
    raise DataError(f"{data}: no such folder or manifest; give the data that the queue was made from: --data")


def _prefix(file: Path, data: Path) -> str:
    return "" if file.parent == data else f"{file.parent.relative_to(data).as_posix()}/"


def _labels(manifests: Mapping[str, Manifest], task: TaskColumn) -> dict[str, str]:
    return {
        prefix + path: task.plain(cell, str(manifest.table.file))
        for prefix, manifest in manifests.items()
        for path, cell in zip(manifest.paths(), manifest.table.values(_own_column(manifest, task)), strict=True)
    }


def _rewrite(manifest: Manifest, prefix: str, wanted: Mapping[str, str], column: str) -> None:
    """Rewrite a column of a manifest with the wanted labels; other columns, the order and the dialect stay."""
    paths, labels = manifest.paths(), manifest.table.values(column)
    changed = [wanted.get(prefix + path, label) for path, label in zip(paths, labels, strict=True)]
    if changed == list(labels):
        return
    table = manifest.table.with_values(column, changed)
    if table.file.suffix.lower() == ".jsonl":
        _rewrite_json_lines(table, column, labels)
    else:
        table.write(table.file)


def _rewrite_json_lines(table: CsvTable, column: str, before: Sequence[str]) -> None:
    """Rewrite the lines whose label differs."""
    lines = table.file.read_text(encoding="utf-8-sig").splitlines()
    for line, label, old in zip(table.lines, table.values(column), before, strict=True):
        if label != old:
            content = {**json.loads(lines[line - 1]), column: label}
            lines[line - 1] = json.dumps(content, ensure_ascii=False)
    write_text(table.file, "\n".join(lines) + "\n")


def _targets(data: Path, listing: Listing, changes: Collection[Review], queue: Path) -> dict[str, str]:
    """Return the new path of each image to move; if a name is taken, the old label becomes its prefix."""
    levels = {record.path: record.label_level for record in listing.records}
    taken = {*levels, *(problem.path for problem in listing.problems)}
    moved: dict[str, str] = {}
    for review in changes:
        where = f"{queue}: line {review.line}"
        if PurePosixPath(review.new_label).name != review.new_label or review.new_label.startswith("."):
            raise DataError(f"{where}: label {review.new_label!r} cannot be the name of a folder; choose another")
        if is_link(data / review.path) or not is_file(data / review.path):
            raise DataError(
                f"{where}: {review.path!r} is a link, or its name is not UTF-8; replace it with a regular file"
            )
        parts = list(PurePosixPath(review.path).parts)
        parts[levels[review.path] - 1] = review.new_label
        target = PurePosixPath(*parts)
        while target.as_posix() in taken or (data / target).exists():
            target = target.with_name(f"{review.label}-{target.name}")
        taken.add(target.as_posix())
        moved[review.path] = target.as_posix()
    return moved


def _rearrange(data: Path, moved: Mapping[str, str]) -> None:
    """Build the folder from hard links to its files, moved ones at their new paths, and replace the old folder."""
    folder = data.resolve()
    with replacing(folder, checksums=False) as temporary:
        temporary.mkdir()
        for place, folders, names in os.walk(folder):
            relative = Path(place).relative_to(folder)
            (temporary / relative).mkdir(exist_ok=True)
            links = [name for name in folders if (Path(place) / name).is_symlink()]
            for name in names + links:
                path = relative / name
                target = temporary / moved.get(path.as_posix(), path)
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(folder / path, target)
        if _files(temporary) != _files(folder):
            raise DataError(f"{data}: changed while it was relabelled; nothing was changed, try again")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)  # costs no space
    except OSError:  # some file systems have no hard links
        shutil.copy2(source, target, follow_symlinks=False)


def _files(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))


def _record(data: Path) -> str | None:
    """If DVC tracks the data, let it record the new version, and return the digest."""
    for tracked in (data.absolute(), data.absolute().parent):
        if not tracked.name or not tracked.with_name(f"{tracked.name}.dvc").is_file():
            continue
        try:
            with Repo(str(tracked.parent)) as repo:
                stages = repo.add(str(tracked))
        except DvcException as error:
            raise DataError(
                f"{tracked}: relabelled, but DVC could not record it ({error}); run `dvc add {tracked}`"
            ) from error
        return str(stages[0].outs[0].hash_info.value)
    return None


def main(
    queue: Annotated[Path, typer.Argument(help="the reviewed queue (CSV)")],
    data: Annotated[Path | None, typer.Option(help="folder or manifest; get_data.source if not given")] = None,
    new_classes: Annotated[bool, typer.Option("--new-classes", help="allow labels that no image has yet")] = False,
) -> None:
    """Apply a reviewed queue of label errors as a new version of the data."""
    try:
        place = data or _source()
        reading = Params.load().validate_data
        done = relabel(
            queue,
            place,
            new_classes=new_classes,
            layout=reading.layout,
            label_level=reading.label_level,
            tasks=task_columns(reading.labels),
        )
    except GraftError as error:
        raise SystemExit(str(error)) from error
    print(f"{place}: {done.relabelled} relabelled, {done.kept} kept, {done.unreviewed} not reviewed")
    if done.version:
        print(f"version {done.version}; keep it: git commit {place}.dvc, dvc push")
    elif done.relabelled and place.is_dir():
        print(f"version {folder_digest(place)}; not tracked by DVC (dvc add {place} would keep every version)")


def _source() -> Path:
    params = Params.load().get_data
    if params.repo is not None:
        raise DataError(
            f"get_data.repo={params.repo}: relabel in a clone of it, then set get_data.rev to the new revision; "
            "or give --data"
        )
    return Path(params.source)


if __name__ == "__main__":
    typer.run(main)
