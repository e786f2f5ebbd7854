"""What a data folder holds before a file is opened: records of images, and problems with what is named or found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from graft.data.dataset import Split

SPLIT_NAMES: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
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


def printable(path: str) -> str:
    """Return a path on one line, control characters and line breaks escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)
