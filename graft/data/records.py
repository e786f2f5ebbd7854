"""What is known about a data folder before any file is opened: records of images, and problems with files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
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

LayoutKind = Literal["class folders", "split folders", "domain folders", "manifest"]
ProblemKind = Literal[
    "missing_file",
    "path_escape",
    "broken_link",
    "special_file",
    "unreadable",
    "left_out",
    "unlisted",
    "clutter",
    "not_an_image",
]


@dataclass(frozen=True, slots=True)
class Record:
    """One image file as it is listed, before it is opened."""

    path: str
    """Relative to the folder, posix; bytes that are not UTF-8 are shown as `\\xNN`."""
    file: str
    """Its real path, links resolved."""
    label: str
    split: Split | None = None
    group: str = ""
    domain: str = ""
    extra: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    label_level: int = 0
    """Which folder of the path names the label, from 1; 0 if a manifest does."""
    target: bool = False
    """Whether it belongs to a domain that a model is adapted to; its label may be empty, and is never learnt."""
    image: bool = True
    """Whether it is meant as an image, readable or not, see `graft.imaging.signatures`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that is listed but must not or cannot be read."""

    kind: ProblemKind
    path: str
    message: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """All records of a folder, sorted by path, with what was left out and warnings for the user."""

    layout: LayoutKind
    records: tuple[Record, ...]
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    reading: str = ""
    """One line about how the folder was read, and why."""
    targets: tuple[Record, ...] = ()
    """Images of domains that a model is adapted to; none of `records`."""


def printable(path: str) -> str:
    """Return a path on one line, with control characters and line breaks escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)
