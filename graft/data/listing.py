"""From a folder to records: the label of each file, and its split, group and domain if they are given.

Three layouts are supported:

- class folders: `<label>/.../<image>`;
- split folders: `train/<label>/...` with `val/<label>/...`, `test/<label>/...` or both;
- a manifest (see `manifest`).

Nothing outside the folder is ever opened: what `safe_paths` refuses becomes a problem, not a record.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from graft.core.errors import DataError
from graft.core.text_forms import one_form
from graft.data.manifest import MANIFEST, list_manifests, manifests_in
from graft.data.records import SPLIT_NAMES, Layout, Listing, Problem, Record, Split, printable
from graft.data.safe_paths import check_path, decode_name, relative_name
from graft.data.source import SOURCE_FILE, read_source

LAYOUTS = f"class folders, train/val/test folders of class folders, or a {MANIFEST} with the columns path and label"
# Files that archivers and file managers leave behind.
_CLUTTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}


def list_images(root: Path) -> Listing:
    """Recognise the layout of the folder `root` and list its image files; no image is opened.

    If only two split folders exist, the second one is the test set whatever its name, and a warning says so.

    Raises:
        DataError: if the folder is missing or empty, has no known layout, or its manifest is broken.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected {LAYOUTS}")
    root = root.resolve()
    if manifests := manifests_in(root):
        listing = list_manifests(root, manifests)
    else:
        folders = [entry.name for entry in _entries(root) if entry.is_dir(follow_symlinks=False)]
        listing = _from_split_folders(root, folders) or _from_class_folders(root, folders)
    listing = replace(listing, problems=listing.problems + _left_out(root))
    if not listing.records and not listing.problems:
        raise DataError(f"{root}: no image files here; expected {LAYOUTS}")
    return _second_split_is_test(listing)


def _left_out(root: Path) -> tuple[Problem, ...]:
    """Return the files that get_data left out, from the record next to the images."""
    source = read_source(root)
    return tuple(
        Problem(skipped.kind, skipped.path, skipped.reason)
        for skipped in (source.skipped if source else ())
        if skipped.kind != "reserved_name"
    )


def _from_class_folders(root: Path, folders: Sequence[str]) -> Listing:
    collected = _Collected(root)
    loose = collected.collect_files_in(root)
    if not folders and not collected.problems:
        if loose:
            raise DataError(f"{root}: files are directly in the folder, so they have no label; expected {LAYOUTS}")
        raise DataError(f"{root}: the folder is empty; expected {LAYOUTS}")
    for name in folders:
        collected.collect_class(root / name, one_form(decode_name(name)), None)
    ignored = [name for name in loose if name != SOURCE_FILE]
    if ignored:
        collected.warnings.append(
            f"{len(ignored)} files outside the class folders are ignored: {_first_names(ignored)}"
        )
    return collected.listing("class folders")


def _from_split_folders(root: Path, folders: Sequence[str]) -> Listing | None:
    """Return the listing if `root` holds split folders of class folders, else None."""
    splits = {name: SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}
    splits = {name: split for name, split in splits.items() if _has_folders(root / name)}
    if "train" not in splits.values():
        return None
    if len(set(splits.values())) < len(splits):
        raise DataError(f"{root}: two folders stand for the same split ({', '.join(sorted(splits))}); keep one of them")
    collected = _Collected(root)
    loose = [name for name in collected.collect_files_in(root) if name != SOURCE_FILE]
    for name, split in splits.items():
        loose += collected.collect_files_in(root / name)
        for entry in _entries(root / name):
            if entry.is_dir(follow_symlinks=False):
                collected.collect_class(root / name / entry.name, one_form(decode_name(entry.name)), split)
    loose += [f"{name}/" for name in folders if name not in splits]
    if loose:
        collected.warnings.append(f"ignored, because not in a class folder of a split: {_first_names(loose)}")
    return collected.listing("split folders")


class _Collected:
    """The records, problems and warnings found below one root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records: list[Record] = []
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def collect_files_in(self, folder: Path) -> list[str]:
        """Return the names of the plain files in `folder`; links and other special entries become problems."""
        files: list[str] = []
        for entry in _entries(folder):
            if entry.is_dir(follow_symlinks=False):
                continue
            found = check_path(self.root, folder / entry.name)
            if isinstance(found, Problem):
                self.problems.append(found)
            else:
                files.append(relative_name(self.root, folder / entry.name))
        return files

    def collect_class(self, folder: Path, label: str, split: Split | None) -> None:
        """Collect every file below `folder`; folders inside a class folder do not change the label."""
        empty = True
        for path in _walk(folder):
            empty = False
            file = check_path(self.root, path)
            if isinstance(file, Problem):
                self.problems.append(Problem(file.kind, file.path, file.message, label))
            else:
                self.records.append(Record(relative_name(self.root, path), file, label, split))
        if empty:
            self.warnings.append(
                f"{printable(relative_name(self.root, folder))}: the folder holds no file, so it is not a class"
            )

    def listing(self, layout: Layout) -> Listing:
        return Listing(layout, tuple(self.records), tuple(self.problems), tuple(self.warnings))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield everything below `folder` that is not a folder, sorted; links to folders are yielded, not followed."""
    try:
        entries = _entries(folder)
    except OSError:
        yield folder  # `check_path` says that it cannot be listed
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder / entry.name)
        else:
            yield folder / entry.name


def _second_split_is_test(listing: Listing) -> Listing:
    given = {record.split for record in listing.records} - {None}
    if given != {"train", "val"}:
        return listing
    records = tuple(
        Record(r.path, r.file, r.label, "test" if r.split == "val" else r.split, r.group, r.domain, r.extra)
        for r in listing.records
    )
    text = (
        "only two splits are given: the one named validation becomes the test set, and validation is drawn from train"
    )
    return Listing(listing.layout, records, listing.problems, (*listing.warnings, text))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, sorted, without hidden files and clutter."""
    with os.scandir(folder) as entries:
        kept = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in _CLUTTER]
    return sorted(kept, key=lambda entry: entry.name)


def _has_folders(folder: Path) -> bool:
    try:
        return any(entry.is_dir(follow_symlinks=False) for entry in _entries(folder))
    except OSError:
        return False


def _first_names(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(printable(name) for name in names[:most]) + more
