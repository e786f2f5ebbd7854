"""Everything below a data folder, read once: the images with their folders, what else lies there, and what is clutter.

No image is opened, but the first bytes of files whose name does not say that they are one.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from graft.core.errors import DataError
from graft.data.clutter import is_clutter
from graft.data.records import Problem
from graft.data.safe_paths import check_path, read_head, relative_name
from graft.data.source import SOURCE_FILE, read_source
from graft.imaging.signatures import HEAD_BYTES, image_format, is_image, is_named_image


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A file below the data folder."""

    folders: tuple[str, ...]
    """Names of the folders that lead to it, from the root down, as the file system has them."""
    path: str
    """Relative to the root, posix, printable as text."""
    file: str
    """Its real path, links resolved."""
    image: bool
    """Whether it is meant as an image, readable or not (`signatures.is_image`)."""


@dataclass
class Tree:
    """What lies below a folder; files are sorted by path."""

    root: Path
    files: list[TreeFile] = field(default_factory=list)
    problems: list[tuple[tuple[str, ...], Problem]] = field(default_factory=list)
    """What must not be read, with the folders that lead to it."""
    clutter: list[str] = field(default_factory=list)
    """Images in folders and files that are no part of the data."""
    empty: list[str] = field(default_factory=list)
    """Folders without any file."""

    @property
    def images(self) -> list[TreeFile]:
        """The files that are meant as images."""
        return [file for file in self.files if file.image]


def read_tree(root: Path) -> Tree:
    """Read the names of everything below `root`, a resolved path."""
    tree = Tree(root)
    _read(tree, root, ())
    return tree


def _read(tree: Tree, folder: Path, folders: tuple[str, ...]) -> int:
    """Add what is below a folder to the tree; return the number of entries that are not clutter, at any depth."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        problem = check_path(tree.root, folder)
        if isinstance(problem, Problem):
            tree.problems.append((folders, problem))
        return 1
    number = 0
    for entry in entries:
        path = folder / entry.name
        if is_clutter(entry.name):
            tree.clutter += [relative_name(tree.root, image) for image in _images_in(path)]
        elif entry.is_dir(follow_symlinks=False):
            below = _read(tree, path, (*folders, entry.name))
            if not below:
                tree.empty.append(relative_name(tree.root, path))
            number += below
        elif not (not folders and entry.name == SOURCE_FILE and read_source(tree.root) is not None):
            _add_file(tree, path, folders)
            number += 1
    return number


def _add_file(tree: Tree, path: Path, folders: tuple[str, ...]) -> None:
    file = check_path(tree.root, path)
    if isinstance(file, Problem):
        tree.problems.append((folders, file))
        return
    tree.files.append(TreeFile(folders, relative_name(tree.root, path), file, _is_image(file, path.name)))


def _images_in(clutter: Path) -> Iterator[Path]:
    """Yield the images, by content, among clutter: thumbnails of a network drive, copies of a notebook."""
    inside = clutter.rglob("*") if clutter.is_dir() and not clutter.is_symlink() else iter((clutter,))
    for path in inside:
        with suppress(DataError, OSError):
            if is_named_image(path.name) and not path.is_dir() and image_format(read_head(path, HEAD_BYTES)):
                yield path


def _is_image(file: str, name: str) -> bool:
    if is_named_image(name):
        return True
    try:
        return is_image(name, read_head(file, HEAD_BYTES))
    except DataError:
        return True  # a file that cannot be read may be one: the examination says why it cannot
