"""From a folder to records: the label of each file, and its split, group and domain if they are given.

A folder is read as its folders' names say (see `readings`), or as a manifest does (see `manifest`). Every image below
it becomes a record or a problem: none is left out silently.

Nothing outside the folder is ever opened: what `safe_paths` refuses becomes a problem, not a record.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from graft.core.errors import DataError
from graft.core.text_forms import one_form
from graft.data.clutter import ARCHIVES
from graft.data.folder_tree import Tree, TreeFile, read_tree
from graft.data.manifest import MANIFEST, ONE_LABEL, list_manifests, manifests_in
from graft.data.readings import Layout, Reading, choose
from graft.data.records import SPLITS, LayoutKind, Listing, Problem, Record, Split, printable
from graft.data.safe_paths import decode_name
from graft.data.source import read_source
from graft.data.wrappers import Unwrapped
from graft.tasks.columns import LABEL, TaskColumn

LAYOUTS = (
    "class folders, train/val/test folders of class folders, domains of class folders, or a "
    f"{MANIFEST} with the columns path and label"
)


def list_images(
    root: Path,
    layout: Layout = "auto",
    label_level: int | None = None,
    tasks: Sequence[TaskColumn] = ONE_LABEL,
) -> Listing:
    """List the image files below the folder `root` with what their folders say; no image is opened.

    If only two splits exist, the second one is the test set whatever its name, and a warning says so.

    Args:
        root: the data folder.
        layout: what its folders are; auto: found out.
        label_level: which folder of a path names the class, from 1 at the root; None: found out.
        tasks: the columns that are learnt; folders have a label and perhaps a domain.

    Raises:
        DataError: if the folder is missing or empty, can be read in several ways or none, or its manifest is broken.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected {LAYOUTS}")
    name, root = str(root), root.resolve()
    tree = read_tree(root)
    if manifests := manifests_in(root):
        listing = _with_the_rest(list_manifests(root, manifests, tasks), tree)
    else:
        listing = _from_tree(name, tree, layout, label_level)
        _check_folders_have(tasks, listing)
    problems = (*listing.problems, *_clutter(tree), *_left_out_before(root))
    return with_second_split_as_test(replace(listing, problems=problems))


def _check_folders_have(tasks: Sequence[TaskColumn], listing: Listing) -> None:
    """Refuse tasks that folders do not tell."""
    columns = (LABEL, "domain") if listing.layout == "domain folders" else (LABEL,)
    for task in tasks:
        if task.name not in columns or task.has_tags:
            raise DataError(
                f"validate_data.labels: {task.name!r} needs a manifest with that column; folders name only "
                f"{' and '.join(columns)}"
            )
    if tasks[0].name != LABEL:
        raise DataError(f"validate_data.labels: folders name the label first; write [label, {tasks[0].name}]")


def _from_tree(name: str, tree: Tree, layout: Layout, label_level: int | None) -> Listing:
    if not tree.images and not tree.problems:
        what = "the folder is empty" if not tree.files and not tree.empty else "no image files here"
        packed = next((file.path for file in tree.files if PurePosixPath(file.path).suffix.lower() in ARCHIVES), "")
        what += f", but {printable(packed)}: unpack it into folders" if packed else ""
        raise DataError(f"{name}: {what}; expected {LAYOUTS}")
    reading, unwrapped = Reading(0), Unwrapped({}, {})
    if tree.images:
        reading, unwrapped = choose(name, tree.images, layout, label_level)
    records: list[Record] = []
    problems: list[Problem] = []
    for file in tree.files:
        folders = unwrapped.folders.get(file.folders, file.folders)
        placed = reading.place(folders)
        if placed is None:
            problems.append(_unplaced(file, reading))
        else:
            label, split, domain = placed
            level = unwrapped.levels[file.folders][reading.label] + 1 if file.folders in unwrapped.levels else 0
            records.append(
                Record(
                    file.path, file.file, _text(label), split, domain=_text(domain), label_level=level, image=file.image
                )
            )
    for folders, problem in tree.problems:
        placed = reading.place(unwrapped.folders.get(folders, folders))
        problems.append(replace(problem, label=_text(placed[0])) if placed else problem)
    warnings = tuple(f"{printable(path)}: the folder holds no file, so it is not a class" for path in tree.empty)
    kind = _kind(reading)
    return Listing(kind, tuple(records), tuple(problems), warnings, _said(name, kind, reading, unwrapped, records))


def _kind(reading: Reading) -> LayoutKind:
    if reading.domain is not None:
        return "domain folders"
    return "class folders" if reading.split is None else "split folders"


def _unplaced(file: TreeFile, reading: Reading) -> Problem:
    if not file.image:
        return Problem("not_an_image", file.path, "no image by name or content")
    where = "in no class folder" + (" of a split" if reading.split is not None else "")
    return Problem("left_out", file.path, where)


def _said(name: str, kind: str, reading: Reading, unwrapped: Unwrapped, records: Sequence[Record]) -> str:
    """Return one line about how a folder is read, and why."""
    labels = {record.label for record in records if record.image}
    text = f"{name}: read as {kind}, {len(labels):,} class{'es' * (len(labels) != 1)}"
    if reading.split is not None and reading.splits:
        names = [name for split in SPLITS for name, meant in sorted(reading.splits.items()) if meant == split]
        text += f", splits {', '.join(f'{_text(one)}/' for one in names)}"
    if reading.domain is not None:
        text += f", {len({record.domain for record in records}):,} domains"
    level = unwrapped.level(reading.label) if unwrapped.levels else None
    if level is not None and level > 1:
        text += f"; folder level {level} is the class"
    return f"{text}{f' ({reading.why})' if reading.why else ''}"


def _with_the_rest(listing: Listing, tree: Tree) -> Listing:
    """Add the images that a manifest does not name to its problems."""
    named = {record.file for record in listing.records}
    rest = tuple(
        Problem("unlisted", file.path, "not in the manifest") for file in tree.images if file.file not in named
    )
    return replace(listing, problems=listing.problems + rest)


def _clutter(tree: Tree) -> Iterator[Problem]:
    for path in tree.clutter:
        yield Problem("clutter", path, "an image of a file manager, archiver or other program")


def _left_out_before(root: Path) -> Iterator[Problem]:
    """Yield the files that get_data left out, from the record next to the images."""
    source = read_source(root)
    for skipped in source.skipped if source else ():
        if skipped.kind != "reserved_name":
            yield Problem(skipped.kind, skipped.path, skipped.reason)


def with_second_split_as_test(listing: Listing) -> Listing:
    """Make the second of two given splits the test set, whatever its name, with a warning that says so."""
    given = {record.split for record in listing.records} - {None}
    if given != {"train", "val"}:
        return listing
    as_test: Mapping[Split | None, Split | None] = {"val": "test"}
    records = tuple(replace(record, split=as_test.get(record.split, record.split)) for record in listing.records)
    text = (
        "only two splits are given: the one named validation becomes the test set, and validation is drawn from train"
    )
    return replace(listing, records=records, warnings=(*listing.warnings, text))


def _text(name: str) -> str:
    """Return a folder's name as text, in one form of Unicode."""
    return one_form(decode_name(name))
