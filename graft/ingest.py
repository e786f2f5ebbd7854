"""From a folder to records: which file carries which label, and which split, group and domain if they are given.

Three layouts are understood:

- class folders: `<label>/.../<image>`;
- split folders: `train/<label>/...` with `val/<label>/...` and `test/<label>/...` or one of them;
- a manifest: `manifest.csv` at the root with the columns `path` and `label`, and optionally `split`, `group` and
  `domain`; further columns are kept.

Nothing outside the folder is ever opened: links that leave it, loops, pipes and devices become problems, not records.
"""

import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Literal

import pandas as pd

from graft.dataset import Split
from graft.errors import DataError
from graft.source import SOURCE_FILE, read_source

MANIFEST = "manifest.csv"
MANIFEST_COLUMNS = ("path", "label", "split", "group", "domain")
LAYOUTS = f"class folders, train/val/test folders of class folders, or a {MANIFEST} with the columns path and label"
SPLIT_NAMES: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# Left by archivers and file managers beside the data.
_CLUTTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}
_NOTHING: Mapping[str, str] = MappingProxyType({})

Layout = Literal["class folders", "split folders", "manifest"]
ProblemKind = Literal["missing_file", "path_escape", "broken_link", "special_file", "unreadable"]


@dataclass(frozen=True, slots=True)
class Record:
    """One image file as the folder presents it, before it is opened."""

    path: str
    """Relative to the folder, posix; bytes that are no UTF-8 are shown as `\\xNN`."""
    file: str
    """Where it really lies, links resolved."""
    label: str
    split: Split | None = None
    group: str = ""
    domain: str = ""
    extra: Mapping[str, str] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that is named or found but must not or cannot be read."""

    kind: ProblemKind
    path: str
    message: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """All records of a folder, sorted by path, with what was left out and what the user should know."""

    layout: Layout
    records: tuple[Record, ...]
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


def list_images(root: Path) -> Listing:
    """Recognise the layout of the folder `root` and list its image files; no image is opened.

    Where only two given split folders exist, the second one is the test set whatever its name, and a warning says so.

    Raises:
        DataError: if the folder is missing or empty, has no known layout, or its manifest is broken.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected {LAYOUTS}")
    root = root.resolve()
    if (root / MANIFEST).is_file():
        listing = _from_manifest(root)
    else:
        folders = [entry.name for entry in _entries(root) if entry.is_dir(follow_symlinks=False)]
        listing = _from_split_folders(root, folders) or _from_class_folders(root, folders)
    listing = replace(listing, problems=listing.problems + _left_out(root))
    if not listing.records and not listing.problems:
        raise DataError(f"{root}: no image files here; expected {LAYOUTS}")
    return _second_split_is_test(listing)


def read_bytes(file: Path | str, max_bytes: int | None = None, resolved: bool = False) -> bytes:
    """Read a regular file, refusing links, pipes and devices even if one took the file's place since it was listed.

    Args:
        file: what to read.
        max_bytes: a larger file is not read.
        resolved: no folder on the way was a link when the file was listed, so none may be one now.

    Raises:
        DataError: in one clause, if it vanished, is no regular file, cannot be read, or is larger than `max_bytes`.
    """
    try:
        # O_NONBLOCK: opening a pipe must not wait for its other end.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise DataError("vanished while the folder was read") from error
    except OSError as error:
        raise DataError(f"cannot be opened ({error.strerror})") from error
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DataError("is no regular file")
        if resolved and os.path.realpath(file) != os.fspath(file):
            raise DataError("lies behind a link that took a folder's place while the folder was read")
        if max_bytes is not None and status.st_size > max_bytes:
            raise DataError(f"has {status.st_size:,} bytes, more than the {max_bytes:,} allowed")
        try:
            return stream.read()
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})") from error


def shown(path: str) -> str:
    """Return a path on one line, control characters and line breaks escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)


def _left_out(root: Path) -> tuple[Problem, ...]:
    """Return what get_data found at the source and would not take, as the record beside the images says."""
    source = read_source(root)
    return tuple(
        Problem(skipped.kind, skipped.path, skipped.reason)
        for skipped in (source.skipped if source else ())
        if skipped.kind != "reserved_name"
    )


def _from_class_folders(root: Path, folders: Sequence[str]) -> Listing:
    collected = _Collected(root)
    loose = collected.beside(root)
    if not folders and not collected.problems:
        if loose:
            raise DataError(f"{root}: files lie directly in the folder, so they have no label; expected {LAYOUTS}")
        raise DataError(f"{root}: the folder is empty; expected {LAYOUTS}")
    for name in folders:
        collected.below(root / name, _text(name), None)
    ignored = [name for name in loose if name != SOURCE_FILE]
    if ignored:
        collected.warnings.append(f"{len(ignored)} files outside the class folders are ignored: {_some(ignored)}")
    return collected.listing("class folders")


def _from_split_folders(root: Path, folders: Sequence[str]) -> Listing | None:
    """Return the listing if `root` holds split folders of class folders, else None."""
    splits = {name: SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}
    splits = {name: split for name, split in splits.items() if _has_folders(root / name)}
    if "train" not in splits.values():
        return None
    if len(set(splits.values())) < len(splits):
        raise DataError(f"{root}: two folders mean the same split ({', '.join(sorted(splits))}); keep one of them")
    collected = _Collected(root)
    loose = [name for name in collected.beside(root) if name != SOURCE_FILE]
    for name, split in splits.items():
        loose += collected.beside(root / name)
        for entry in _entries(root / name):
            if entry.is_dir(follow_symlinks=False):
                collected.below(root / name / entry.name, _text(entry.name), split)
    loose += [f"{name}/" for name in folders if name not in splits]
    if loose:
        collected.warnings.append(f"ignored beside the splits' class folders: {_some(loose)}")
    return collected.listing("split folders")


class _Collected:
    """What was found below the folders of one root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records: list[Record] = []
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def beside(self, folder: Path) -> list[str]:
        """Return the names of the plain files in `folder`; links and other special entries become problems."""
        files: list[str] = []
        for entry in _entries(folder):
            if entry.is_dir(follow_symlinks=False):
                continue
            checked = _checked(self.root, folder / entry.name)
            if isinstance(checked, Problem):
                self.problems.append(checked)
            else:
                files.append(_relative(self.root, folder / entry.name))
        return files

    def below(self, folder: Path, label: str, split: Split | None) -> None:
        """Collect every file below `folder`; folders inside a class folder do not change the label."""
        empty = True
        for path in _walk(folder):
            empty = False
            checked = _checked(self.root, path)
            if isinstance(checked, Problem):
                self.problems.append(Problem(checked.kind, checked.path, checked.message, label))
            else:
                self.records.append(Record(_relative(self.root, path), checked, label, split))
        if empty:
            self.warnings.append(f"{shown(_relative(self.root, folder))}: the folder holds no file, so it is no class")

    def listing(self, layout: Layout) -> Listing:
        return Listing(layout, tuple(self.records), tuple(self.problems), tuple(self.warnings))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield everything below `folder` that is no folder, sorted; linked folders are yielded, not entered."""
    try:
        entries = _entries(folder)
    except OSError:
        yield folder  # `_checked` says that it cannot be listed
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder / entry.name)
        else:
            yield folder / entry.name


def _checked(root: Path, path: Path) -> str | Problem:
    """Return the file behind `path`, or why it must not be read."""
    name = _relative(root, path)
    try:
        real = os.path.realpath(path, strict=True)
        mode = Path(real).stat().st_mode
    except FileNotFoundError:
        kind: ProblemKind = "broken_link" if path.is_symlink() else "missing_file"
        return Problem(kind, name, "a link to nothing" if kind == "broken_link" else "no such file")
    except OSError as error:
        looped = error.errno == errno.ELOOP or path.is_symlink()
        return Problem("broken_link", name, "a loop of links") if looped else Problem("unreadable", name, str(error))
    if not Path(real).is_relative_to(root):
        return Problem("path_escape", name, "leads out of the data folder")
    if stat.S_ISDIR(mode) and path.is_symlink():
        return Problem("broken_link", name, "a link to a folder, which is not followed")
    if stat.S_ISDIR(mode):
        return Problem("unreadable", name, "a folder that may not be listed")
    if not stat.S_ISREG(mode):
        return Problem("special_file", name, "no regular file (a pipe, socket or device)")
    return real


def _from_manifest(root: Path) -> Listing:
    frame = _read_manifest(root / MANIFEST)
    extra = [name for name in frame.columns if name not in MANIFEST_COLUMNS]
    records: list[Record] = []
    problems: list[Problem] = []
    for number, values in enumerate(zip(*(frame[name] for name in frame.columns), strict=True), start=2):
        row = dict(zip(frame.columns, values, strict=True))
        path, label = row["path"], row["label"]
        if not path or not label.strip():
            field_name = "label" if path else "path"
            raise DataError(f"{MANIFEST} line {number}: {field_name} is empty; expected one for every image")
        checked = _checked_name(root, path, number)
        if isinstance(checked, Problem):
            problems.append(Problem(checked.kind, checked.path, checked.message, label))
            continue
        split = _manifest_split(row.get("split", ""), number)
        group, domain = row.get("group", ""), row.get("domain", "")
        records.append(Record(path, checked, label, split, group, domain, {name: row[name] for name in extra}))
    unsplit = [record.path for record in records if record.split is None]
    if unsplit and len(unsplit) < len(records):
        raise DataError(f"{MANIFEST}: {len(unsplit)} rows have no split while others do (first: {shown(unsplit[0])})")
    return Listing("manifest", tuple(sorted(records, key=lambda record: record.path)), tuple(problems))


def _read_manifest(file: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{MANIFEST}: not a readable CSV table ({' '.join(str(error).split())})") from error
    for name in ("path", "label"):
        if name not in frame.columns:
            found = ", ".join(map(str, frame.columns))
            raise DataError(f"{MANIFEST}: column {name!r} is missing; found {found}; expected path and label at least")
    if frame.empty:
        raise DataError(f"{MANIFEST}: no rows; expected one for every image")
    return frame


def _checked_name(root: Path, name: str, line: int) -> str | Problem:
    """Check a path that a manifest names before the file system is asked about it."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\0" in name:
        return Problem("path_escape", name, f"{MANIFEST} line {line} leads out of the data folder")
    checked = _checked(root, root / pure)
    if isinstance(checked, Problem) and checked.kind == "missing_file":
        return Problem("missing_file", name, f"{MANIFEST} line {line} names a file that is not there")
    return checked


def _manifest_split(value: str, line: int) -> Split | None:
    name = value.strip().lower()
    if name and name not in SPLIT_NAMES:
        raise DataError(f"{MANIFEST} line {line}: split {value!r}; expected train, val or test")
    return SPLIT_NAMES.get(name)


def _second_split_is_test(listing: Listing) -> Listing:
    given = {record.split for record in listing.records} - {None}
    if given != {"train", "val"}:
        return listing
    records = tuple(
        Record(r.path, r.file, r.label, "test" if r.split == "val" else r.split, r.group, r.domain, r.extra)
        for r in listing.records
    )
    text = (
        "only two splits are given: the one named validation is used as the test set, validation is carved from train"
    )
    return Listing(listing.layout, records, listing.problems, (*listing.warnings, text))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what lies in a folder, sorted, without hidden files and clutter."""
    with os.scandir(folder) as entries:
        kept = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in _CLUTTER]
    return sorted(kept, key=lambda entry: entry.name)


def _has_folders(folder: Path) -> bool:
    try:
        return any(entry.is_dir(follow_symlinks=False) for entry in _entries(folder))
    except OSError:
        return False


def _relative(root: Path, path: Path) -> str:
    return _text(path.relative_to(root).as_posix())


def _text(name: str) -> str:
    r"""Show bytes of a file name that are no UTF-8, which Python holds as surrogates, as `\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown(name) for name in names[:most]) + more
