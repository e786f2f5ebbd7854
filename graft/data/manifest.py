"""A manifest: a table at the root of a data folder, with one row per image.

Its columns are `path` and `label`, and optionally `split`, `group` and `domain`, or what other tools call these
(`COLUMN_NAMES`); other columns are kept. Its file is one of `MANIFESTS`: Hugging Face's `metadata.csv` and
`metadata.jsonl` are manifests too.
"""

import os
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from graft.core.csv_table import CsvTable, read_csv, read_json_lines
from graft.core.errors import DataError
from graft.core.text_forms import look_alikes, one_form
from graft.data.folder_names import splits_of
from graft.data.records import SPLIT_NAMES, Listing, Problem, Record, printable
from graft.data.safe_paths import check_path
from graft.tasks.columns import LABEL, TaskColumn, nearest

MANIFEST = "manifest.csv"
MANIFESTS = (MANIFEST, "manifest.jsonl", "metadata.csv", "metadata.jsonl")
SUFFIXES = (".csv", ".tsv", ".jsonl")
"""Of a manifest that is named as the source of the data."""
COLUMN_NAMES: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "file_name", "filename", "file", "filepath", "file_path", "image", "image_path", "img"),
    "label": ("label", "class", "category", "target", "class_name", "label_name"),
    "split": ("split", "subset"),
    "group": ("group",),
    "domain": ("domain",),
}
"""The names that each column may have, in any case; the first one counts if there are several."""
TARGET = "target"
"""Split of images of a domain to adapt to; of these alone the label may be empty."""
_EXPECTED = "a manifest needs path and label, and may have split, group, domain"
ONE_LABEL = (TaskColumn(LABEL),)
"""The tasks of a manifest unless others are asked for."""


@dataclass(frozen=True)
class Manifest:
    """A manifest's table, and which of its columns stand for ours."""

    table: CsvTable
    named: Mapping[str, str]
    """The user's name of each of our columns that is there."""

    @property
    def extra(self) -> tuple[str, ...]:
        """The other columns; one without a name, as pandas writes its row numbers, is none of them."""
        return tuple(name for name in self.table.columns if name and name not in self.named.values())

    def values(self, column: str) -> tuple[str, ...]:
        """Return one of our columns."""
        return self.table.values(self.named[column])

    def paths(self) -> tuple[str, ...]:
        """Return the path of each row, as it is meant."""
        return tuple(meant_path(self.table.file.parent, path) for path in self.values("path"))

    def rows(self) -> Iterator[tuple[int, dict[str, str], dict[str, str]]]:
        """Yield the line of each row with its values of our columns and of the others."""
        extra = self.extra
        for line, row in self.table.records():
            ours = {column: row[name] for column, name in self.named.items()}
            yield line, ours, {name: row[name] for name in extra}


def manifests_in(folder: Path) -> tuple[Path, ...]:
    """Return the manifest at the root of a data folder, or Hugging Face's one in each folder of a split.

    Their `metadata` files may also hold captions: one without a label is not a manifest.
    """
    own = _manifest_at(folder, MANIFESTS)
    if own is not None:
        return (own,)
    splits = sorted(name for name in SPLIT_NAMES if (folder / name).is_dir())
    found = (_manifest_at(folder / name, MANIFESTS[2:]) for name in splits)
    return tuple(file for file in found if file is not None)


def _manifest_at(folder: Path, names: Sequence[str]) -> Path | None:
    files = [folder / name for name in names if (folder / name).is_file()]
    return next((file for file in files if file.stem == "manifest" or "label" in _named(read_table(file))), None)


def read_table(file: Path) -> CsvTable:
    """Read the text of a manifest.

    Raises:
        DataError: see `read_csv` and `read_json_lines`.
    """
    return read_json_lines(file) if file.suffix.lower() == ".jsonl" else read_csv(file)


def read_manifest(
    file: Path, needs: Sequence[str] = ("path", "label"), tasks: Sequence[TaskColumn] = ONE_LABEL
) -> Manifest:
    """Read a manifest and find its columns.

    Args:
        file: the table.
        needs: those of our columns that it must have.
        tasks: the columns that are learnt, if it must have a label.

    Raises:
        DataError: if it is not a table, has no rows, lacks a path or the column of a task, or two could be one of them.
    """
    table = read_table(file)
    named = _named(table)
    if LABEL in needs and tasks[0].name != LABEL:
        named[LABEL] = _column(file, table, tasks[0].name)
        for other in ("group", "domain"):
            if named.get(other) == named[LABEL]:
                del named[other]
    for column in needs:
        if column not in named:
            found = ", ".join(table.columns)
            also = ", ".join(COLUMN_NAMES[column][1:])
            raise DataError(f"{file}: no column {column!r} (found: {found}; also read: {also}); {_EXPECTED}")
    if not table.rows:
        raise DataError(f"{file}: no rows; expected one for every image")
    for task in tasks[1:] if LABEL in needs else ():
        _column(file, table, task.name)
    return Manifest(table, named)


def _column(file: Path, table: CsvTable, name: str) -> str:
    """Return the name of a column that is there.

    Raises:
        DataError: naming the nearest ones, if there is none.
    """
    if name not in table.columns:
        raise DataError(f"{file}: no column {name!r} (validate_data.labels); {nearest(name, table.columns)}")
    return name


def list_manifests(root: Path, files: Sequence[Path], tasks: Sequence[TaskColumn] = ONE_LABEL) -> Listing:
    """Return the images that the manifests of the data folder `root` list.

    Args:
        root: the data folder.
        files: its manifests.
        tasks: the columns that are learnt; the values of those after the first are in each record's `extra`.

    Raises:
        DataError: if one is invalid; the message names the line.
    """
    records: list[Record] = []
    targets: list[Record] = []
    problems: list[Problem] = []
    for file in files:
        for found in _listed(root, read_manifest(file, tasks=tasks), tasks):
            if isinstance(found, Problem):
                problems.append(found)
            else:
                (targets if found.target else records).append(found)
    if targets and not records:
        raise DataError(f"{files[0].relative_to(root)}: every row has split {TARGET!r}; a model is learnt from others")
    unsplit = [record.path for record in records if record.split is None]
    if unsplit and len(unsplit) < len(records):
        raise DataError(
            f"{files[0].relative_to(root)}: {len(unsplit)} rows have no split while others do "
            f"(first: {printable(unsplit[0])})"
        )
    ordered, apart = (tuple(sorted(rows, key=lambda record: record.path)) for rows in (records, targets))
    learnt = {task.name for task in tasks[1:]}  # whose variants are findings
    alike = tuple(_look_alikes(files[0].name, [*records, *targets], learnt))
    return Listing("manifest", ordered, tuple(problems), alike, targets=apart)


def _look_alikes(name: str, records: Sequence[Record], learnt: Collection[str]) -> Iterator[str]:
    """Yield a warning about groups, domains and values of other columns that differ only in form."""
    columns = {"group": [record.group for record in records], "domain": [record.domain for record in records]}
    columns |= {own: [record.extra.get(own, "") for record in records] for own in (records[0].extra if records else ())}
    columns = {column: values for column, values in columns.items() if column not in learnt}
    for column, values in columns.items():
        alike = look_alikes(values)
        if alike and not all(map(_is_number, filter(str.strip, values))):
            same = " and ".join(repr(printable(value)) for value in alike[0])
            more = f" (and {len(alike) - 1} more such values)" if len(alike) > 1 else ""
            yield f"{name}: {same} in column {column!r} differ only in form and count as different{more}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _listed(root: Path, manifest: Manifest, tasks: Sequence[TaskColumn]) -> Iterator[Record | Problem]:
    file = manifest.table.file
    folder = file.parent.relative_to(root).as_posix()
    prefix = "" if folder == "." else f"{folder}/"
    written = {value.strip() for value in manifest.values("split")} if "split" in manifest.named else set()
    splits = splits_of({*written, folder} - {"", "."})
    for line, row, extra in manifest.rows():
        where = f"{prefix}{file.name} line {line}"
        if not row["path"]:
            raise DataError(f"{where}: path is empty; expected one for every image")
        target = (row.get("split") or "").strip().lower() == TARGET
        path = prefix + meant_path(root / prefix, row["path"])
        label = _answer_all(manifest, row, extra, tasks, where, optional=target)
        found = _checked_name(root, path, where)
        if isinstance(found, Problem):
            yield Problem(found.kind, found.path, found.message, label)
            continue
        named = "" if target else (row.get("split") or "").strip() or ("" if folder == "." else folder)
        if named and named not in splits:
            raise DataError(f"{where}: split {named!r}; expected train, val, test or {TARGET}")
        split, domain = splits.get(named), row.get("domain", "")
        yield Record(path, found, label, split, row.get("group", ""), domain, extra, target=target)


def _answer_all(
    manifest: Manifest,
    row: dict[str, str],
    extra: dict[str, str],
    tasks: Sequence[TaskColumn],
    where: str,
    *,
    optional: bool,
) -> str:
    """Bring the values of all tasks in a row into one form; return that of the first.

    Raises:
        DataError: if there is no label at all, unless labels are optional.
    """
    ours = {own: column for column, own in manifest.named.items()}
    label = tasks[0].plain(row[LABEL], where)
    any_label = tasks[0].is_labelled(label)
    for task in tasks[1:]:
        cells, name = (row, ours[task.name]) if task.name in ours else (extra, task.name)
        cells[name] = task.plain(cells[name], where)
        any_label |= task.is_labelled(cells[name])
    if not any_label and not optional:
        if len(tasks) == 1:
            raise DataError(f"{where}: label is empty; expected one for every image")
        raise DataError(f"{where}: {', '.join(task.name for task in tasks)} are all empty; expected a label in one")
    return label


def _named(table: CsvTable) -> dict[str, str]:
    """Return the user's name of each of our columns."""
    named = {}
    for column, names in COLUMN_NAMES.items():
        found = [own for name in names for own in table.columns if own.lower() == name]
        exact = [own for own in found if own.lower() == column]
        if len(exact or found) > 1:
            raise DataError(
                f"{table.file}: {' and '.join(map(repr, exact or found))} could each be the column {column!r}; "
                f"name the right one {column}"
            )
        if found:
            named[column] = found[0]
    return named


def existing_form(root: Path, name: str) -> str:
    """Return a path as the file system spells it, which may store accents in another form than a manifest does."""
    return _found(root, name) or name


def meant_path(root: Path, written: str) -> str:
    """Return a path of a manifest as its writer means it.

    If there is no such file below `root`, blanks around the path, a leading `./` and the separators of Windows are
    tried away; a path that still names no file is returned as it is written.
    """
    bare = written.strip()
    tried = (written, bare, bare.replace("\\", "/"))
    return next((str(PurePosixPath(path)) for path in tried if path and _found(root, path)), written)


def _found(root: Path, name: str) -> str | None:
    forms = (name, one_form(name), unicodedata.normalize("NFD", name))
    return next((form for form in forms if "\0" not in form and os.path.lexists(root / form)), None)


def _checked_name(root: Path, name: str, where: str) -> str | Problem:
    """Check a manifest's path before it is used on the file system."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\0" in name:
        return Problem("path_escape", name, f"{where} leads out of the data folder")
    file = check_path(root, root / existing_form(root, name))
    if isinstance(file, Problem) and file.kind == "missing_file":
        return Problem("missing_file", name, f"{where} names a file that is not there")
    return file
