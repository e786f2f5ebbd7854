"""Which level of a folder tree names the class, which the split, and which the domain: weighed, not guessed.

Wrappers are taken out first: a folder that holds all of the data, and one that repeats its parent
(`training_set/training_set`). The folder names of each level are then compared: names of splits, one name for all, the
same names under every parent (crossed levels, such as domain and class), other names under each (nested levels),
numbers, and images beside folders. If that leaves two readings, `choose` refuses and names both.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from graft.core.errors import DataError
from graft.data.folder_names import are_domains, are_numbered, splits_of
from graft.data.folder_tree import TreeFile
from graft.data.records import Split, printable
from graft.data.safe_paths import decode_name
from graft.data.wrappers import MOST_LEFT_OUT_SHARE, Folders, Unwrapped, unwrap

Layout = Literal["auto", "classes", "splits", "domains"]


@dataclass(frozen=True)
class Reading:
    """What each level of folders is; levels count from 0 at the root, after wrappers are taken out."""

    label: int
    split: int | None = None
    domain: int | None = None
    splits: Mapping[str, Split] | None = None
    """The split of each folder at the level of the splits."""
    why: str = ""
    copies: tuple[str, ...] = ()
    """Folders that look like a second copy of the data: the reading counts only if somebody asks for it."""

    def place(self, folders: Folders) -> tuple[str, Split | None, str] | None:
        """Return label, split and domain of an image by its folders, wrappers taken out; None if it has no label."""
        if len(folders) <= max(self.label, self.split or 0, self.domain or 0):
            return None
        split = None
        if self.split is not None:
            split = (self.splits or {}).get(folders[self.split])
            if split is None:
                return None
        return folders[self.label], split, "" if self.domain is None else folders[self.domain]


def choose(name: str, files: Sequence[TreeFile], layout: Layout, label_level: int | None) -> tuple[Reading, Unwrapped]:
    """Return how the images of the folder `name` are to be read.

    Args:
        name: of the folder, for messages.
        files: the images.
        layout: what the user says the folders are.
        label_level: which folder of a path names the class, from 1 at the root; None: find out.

    Raises:
        DataError: if two readings are plausible, or none is.
    """
    counts = Counter(file.folders for file in files if file.folders)
    if not counts:
        raise DataError(f"{name}: images are directly in the folder, so they have no label; put them in class folders")
    if label_level is not None:
        unwrapped = Unwrapped({f: f for f in counts}, {f: tuple(range(len(f))) for f in counts})
        return _with_level(name, counts, layout, label_level - 1), unwrapped
    unwrapped = unwrap(counts)
    folders: Counter[Folders] = Counter()
    for given, number in counts.items():
        folders[unwrapped.folders[given]] += number
    found = _readings(name, folders, layout)
    if found[0].copies:
        raise DataError(
            f"{name}: {_names(found[0].copies)} holds folders with the names of those beside it, as a second copy of "
            f"the data in an archive does; remove it, or, if it is a class, set {_parameters(found[0], unwrapped)}"
        )
    if len(found) > 1:
        ways = "; or ".join(_described(reading, folders, unwrapped) for reading in found)
        raise DataError(f"{name}: the folders can be read in {len(found)} ways: {ways}")
    wrappers = sorted(
        {decode_name(f[at]) for f, kept in unwrapped.levels.items() for at in set(range(len(f))) - {*kept}}
    )
    if wrappers:
        text = f"{_names(wrappers)} {'only wraps' if len(wrappers) == 1 else 'only wrap'} other folders"
        found = [replace(found[0], why="; ".join(filter(None, (text, found[0].why))))]
    return found[0], unwrapped


def _with_level(name: str, folders: Mapping[Folders, int], layout: Layout, label: int) -> Reading:
    deep = {f: number for f, number in folders.items() if len(f) > label}
    if not deep:
        deepest = max(map(len, folders))
        raise DataError(f"validate_data.label_level={label + 1}: the folders of {name} are {deepest} deep")
    others = [level for level in range(max(map(len, deep))) if level != label]
    why = f"validate_data.label_level={label + 1}"
    split = None if layout == "classes" else next((at for at in others if _are_splits(deep, at, layout)), None)
    if layout == "splits" and split is None:
        raise DataError(f"validate_data.layout=splits: no folders of {name} are named train, val or test")
    domain = None
    if layout == "domains":
        domain = next((at for at in others if at != split and len(_at(deep, at)) > 1), None)
        if domain is None:
            raise DataError(
                f"validate_data.layout=domains: {name} has no level of several folders beside "
                f"validate_data.label_level={label + 1}"
            )
    splits = splits_of(_at(deep, split)) if split is not None else None
    return Reading(label, split, domain, splits, why)


def _readings(name: str, folders: Mapping[Folders, int], layout: Layout) -> list[Reading]:
    """Return the plausible readings, the likeliest first."""
    if layout == "classes":
        return [Reading(0, why="validate_data.layout=classes")]
    at = _split_level(name, folders, layout)
    if at is None:
        if layout == "splits":
            raise DataError(f"validate_data.layout=splits: no folders of {name} are named train, val or test")
        return _label_readings(folders, layout)
    splits = splits_of(_at(folders, at))
    below: Counter[Folders] = Counter()
    for path, number in folders.items():
        if len(path) > at and path[at] in splits:
            below[path[:at] + path[at + 1 :]] += number
    found = [
        replace(
            reading,
            label=_shifted(reading.label, at),
            domain=None if reading.domain is None else _shifted(reading.domain, at),
            split=at,
            splits=splits,
            why="; ".join(
                filter(None, (f"{_names(splits)} {'is a split' if len(splits) == 1 else 'are splits'}", reading.why))
            ),
        )
        for reading in _label_readings(below, layout)
    ]
    used = sum(number for path, number in folders.items() if found[0].place(path))
    whole = sum(folders.values())
    if layout == "auto" and at > 0 and whole - used > MOST_LEFT_OUT_SHARE * whole:
        found.append(Reading(0, why="folders inside a class folder do not change the label"))
    return found


def _split_level(name: str, folders: Mapping[Folders, int], layout: Layout) -> int | None:
    """Return the level whose folders are splits, with a training set among them; None if there is none."""
    for at in range(min(3, max(map(len, folders)))):
        splits = splits_of(_at(folders, at))
        if len(set(splits.values())) < len(splits) and _fits(folders, at, splits):
            raise _ambiguous(name, splits)
        if not splits or (layout == "auto" and not _fits(folders, at, splits)):
            continue
        deeper = any(len(path) > at + 1 for path in folders if len(path) > at and path[at] in splits) or at > 0
        if not deeper:
            if len(splits) == len(_at(folders, at)) and len(splits) > 1:
                raise DataError(
                    f"{name}: {_names(splits)} are named as splits, but hold images and no class folders; put the "
                    "images into class folders in them, or, if these are the classes, set validate_data.layout=classes"
                )
            continue
        if "train" in splits.values():
            return at
        if len(splits) == len(_at(folders, at)) and len(splits) > 1:
            raise DataError(
                f"{name}: {_names(splits)} are named as splits, but none is for training; name one of them train, or, "
                "if these are the classes, set validate_data.layout=classes"
            )
    return None


def _ambiguous(name: str, splits: Mapping[str, Split]) -> DataError:
    """Return the error for folders of which several stand for one split."""
    alike = Counter(splits.values())
    clashing = ((split, [own for own in splits if splits[own] == split]) for split in sorted(alike) if alike[split] > 1)
    text = "; ".join(f"{_names(folders)} each stand for the split {split}" for split, folders in clashing)
    return DataError(
        f"{name}: {text}; keep one of each or move their images together, or, if these are the classes, set "
        "validate_data.layout=classes"
    )


def _fits(folders: Mapping[Folders, int], at: int, splits: Mapping[str, Split]) -> bool:
    """Return whether the folders of a level are splits rather than classes of such a name."""
    if not splits:
        return False
    if at == 0:
        return len(splits) > 1
    inside = [path for path in folders if len(path) > at]
    parents = {path[:at] for path in inside if path[at] in splits}
    return len(splits) > 1 and len(splits) == len(_at(folders, at)) and len(parents) > 1


def _are_splits(folders: Mapping[Folders, int], at: int, layout: Layout) -> bool:
    splits = splits_of(_at(folders, at))
    return "train" in splits.values() and (layout == "splits" or _fits(folders, at, splits))


def _label_readings(folders: Mapping[Folders, int], layout: Layout) -> list[Reading]:
    """Return the plausible readings of folders among which there are no splits, the likeliest first."""
    whole = sum(folders.values())
    top, below = _at(folders, 0), _at(folders, 1)
    direct = sum(number for path, number in folders.items() if len(path) == 1)
    if layout == "domains":
        if not below:
            raise DataError("validate_data.layout=domains: expected two levels of folders, domains and classes")
        if are_domains(below) and not are_domains(top):
            return [Reading(0, domain=1, why=f"{_names(below)} are domains")]
        return [Reading(1, domain=0, why="validate_data.layout=domains")]
    if not below or not top:
        return [Reading(0)]
    if direct > MOST_LEFT_OUT_SHARE * whole:
        copies = [name for name in top if _children(folders, name) and _children(folders, name) <= top - {name}]
        if copies and not any(path == (name,) for path in folders for name in copies):
            return [Reading(0, copies=tuple(copies))]
        return [Reading(0, why="images are beside the deeper folders, which do not change the label")]
    if len(top) == 1:
        inner = {path[1:]: number for path, number in folders.items() if len(path) > 1}
        return [
            replace(one, label=one.label + 1, domain=None if one.domain is None else one.domain + 1)
            for one in _label_readings(inner, layout)
        ]
    if len(below) == 1:
        return [Reading(0, why=f"every class folder holds one folder {_names(below)}")]
    crossed = sum(len({path[0] for path in folders if len(path) > 1 and path[1] == name}) > 1 for name in below)
    if crossed >= len(below) / 2:
        return _crossed(top, below)
    pictures = whole / len({path[:2] for path in folders})
    if are_numbered(below) or pictures <= 2:
        return [Reading(0, why="the folders inside the class folders are numbered or hold one or two images each")]
    return [
        Reading(0, why="folders inside a class folder do not change the label"),
        Reading(1, why="the outer folders only sort the classes"),
    ]


def _crossed(top: Collection[str], below: Collection[str]) -> list[Reading]:
    """Return the readings of two levels where the same names are under every parent."""
    if are_domains(top) != are_domains(below):
        if are_domains(top):
            return [Reading(1, domain=0, why=f"{_names(top)} are domains, with the same folders in each")]
        return [Reading(0, domain=1, why=f"{_names(below)} are domains, in each class folder")]
    if are_numbered(below) and not are_numbered(top):
        return [Reading(0, why="the folders inside the class folders are numbered")]
    return [Reading(1, domain=0), Reading(0, domain=1), Reading(0)]


def _described(reading: Reading, folders: Mapping[Folders, int], unwrapped: Unwrapped) -> str:
    placed = [place for path in folders if (place := reading.place(path))]
    labels = {label for label, _, _ in placed}
    text = f"{len(labels):,} class{'es' * (len(labels) != 1)} ({_names(labels)})"
    domains = {domain for _, _, domain in placed} - {""}
    if domains:
        text += f" in {len(domains):,} domains ({_names(domains)})"
    if reading.split is not None:
        text += f" in the splits {_names(reading.splits or {})}"
    left_out = sum(number for path, number in folders.items() if reading.place(path) is None)
    if left_out:
        text += f", leaving out {left_out:,} images"
    return f"{text}: {_parameters(reading, unwrapped)}"


def _parameters(reading: Reading, unwrapped: Unwrapped) -> str:
    """Return the parameters that choose a reading."""
    layout = "domains" if reading.domain is not None else "splits" if reading.split is not None else "classes"
    level = unwrapped.level(reading.label)
    where = f" validate_data.label_level={level}" if level is not None else ""
    return f"validate_data.layout={layout}{where}"


def _at(folders: Mapping[Folders, int], level: int) -> set[str]:
    return {path[level] for path in folders if len(path) > level}


def _children(folders: Mapping[Folders, int], name: str) -> set[str]:
    return {path[1] for path in folders if len(path) > 1 and path[0] == name}


def _shifted(level: int, split: int) -> int:
    """Return a level counted with the level of the splits."""
    return level + 1 if level >= split else level


def _shown(name: str) -> str:
    return printable(decode_name(name))


def _names(names: Collection[str], most: int = 4) -> str:
    shown = [f"{_shown(name)}/" for name in sorted(names)]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")
