"""Folders that only wrap others: one that holds all of the data, and one that repeats its parent."""

from collections.abc import Mapping
from dataclasses import dataclass

Folders = tuple[str, ...]

_WRAPPERS = frozenset(
    {
        *("data", "dataset", "images", "image", "imgs", "img", "photos", "pictures", "pics", "jpg", "jpeg", "jpegs"),
        *("png", "raw", "files", "all", "raw-img", "raw_images"),
    }
)
MOST_LEFT_OUT, MOST_LEFT_OUT_SHARE = 10, 0.01
"""More images than either of these must not be left out."""


@dataclass(frozen=True)
class Unwrapped:
    """The folders of every image without wrappers."""

    folders: Mapping[Folders, Folders]
    """By the folders as they are."""
    levels: Mapping[Folders, tuple[int, ...]]
    """The places, from 0, of the folders that are kept."""

    def level(self, place: int) -> int | None:
        """Return `validate_data.label_level` for a level after wrappers; None if it is not the same everywhere."""
        found = {levels[place] for levels in self.levels.values() if len(levels) > place}
        return found.pop() + 1 if len(found) == 1 else None


def unwrap(counts: Mapping[Folders, int]) -> Unwrapped:
    """Return the folders of every image without wrappers, by the images per folder."""
    levels = {path: tuple(range(len(path))) for path in counts}
    whole = sum(counts.values())
    skip = 0
    while True:
        first = {path[skip] for path in counts if len(path) > skip}
        direct = sum(number for path, number in counts.items() if len(path) == skip + 1)
        if len(first) != 1 or direct > MOST_LEFT_OUT_SHARE * whole:
            break
        skip += 1
    levels = {path: kept[skip:] for path, kept in levels.items()}
    repeated = _repeated(counts, skip)
    levels = {path: tuple(at for at in kept if path[: at + 1] not in repeated) for path, kept in levels.items()}
    return Unwrapped({path: tuple(path[at] for at in kept) for path, kept in levels.items()}, levels)


def _repeated(counts: Mapping[Folders, int], skip: int) -> set[Folders]:
    """Return the folders that hold only folders, and are the only thing in a parent of the same or a general name."""
    children: dict[Folders, set[Folders]] = {}
    for path in counts:
        for depth in range(1, len(path) + 1):
            children.setdefault(path[: depth - 1], set()).add(path[:depth])
    found: set[Folders] = set()
    for parent, inside in children.items():
        if len(parent) <= skip or len(inside) != 1 or parent in counts:
            continue
        (only,) = inside
        alike = only[-1].casefold() == parent[-1].casefold() or only[-1].casefold() in _WRAPPERS
        if alike and only not in counts and children.get(only):
            found.add(only)
    return found
