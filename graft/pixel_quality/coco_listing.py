"""Which photos of a folder COCO's annotation files name, and what each file says about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from graft.core.errors import DataError
from graft.data.folder_tree import read_tree
from graft.data.listing import with_second_split_as_test
from graft.data.records import SPLIT_NAMES, Listing, Problem, Record, printable
from graft.masks.pairing import PHOTO
from graft.objects.coco import CocoFile, CocoObject, is_coco, read_coco


@dataclass(frozen=True)
class CocoSource:
    """A photo in its annotation file."""

    file: CocoFile
    name: str
    """The photo's name there."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that the file tells."""
        return self.file.photos[self.name]

    @property
    def objects(self) -> tuple[CocoObject, ...]:
        """The photo's objects."""
        return self.file.objects[self.name]


def coco_files(root: Path) -> list[Path]:
    """Return the annotation files in a folder or its `annotations/`."""
    return [file for file in [*sorted(root.glob("*.json")), *sorted(root.glob("annotations/*.json"))] if is_coco(file)]


def list_coco(root: Path, files: Sequence[Path]) -> tuple[Listing, dict[str, CocoSource]]:
    """Return the photos that annotation files name, with the splits that the files' names say.

    Raises:
        DataError: if a file is broken, they disagree about the categories, or only some of them name a split.
    """
    tree = read_tree(root.resolve())
    by_path = {file.path: file for file in tree.images}
    by_name: dict[str, list[str]] = {}
    for path in by_path:
        by_name.setdefault(path.rpartition("/")[2], []).append(path)
    records: list[Record] = []
    problems: list[Problem] = [problem for _, problem in tree.problems]
    known: dict[str, CocoSource] = {}
    labels: tuple[str, ...] | None = None
    objects = 0
    for file in files:
        content = read_coco(file)
        if labels is not None and labels != content.labels:
            raise DataError(f"{file}: its categories differ from those of {files[0].name}")
        labels = content.labels
        split = next((SPLIT_NAMES[word] for word in _words(file.stem) if word in SPLIT_NAMES), None)
        for name in content.photos:
            same_name = by_name.get(name.rpartition("/")[2], [])
            options = [name, f"images/{name}", *(same_name if len(same_name) == 1 else [])]
            found = next((option for option in options if option in by_path), None)
            if found is None:
                problems.append(Problem("missing_file", name, f"{file.name} names a photo that is not there"))
            elif found in known:
                raise DataError(f"{file}: {printable(found)} is in another annotation file too")
            else:
                known[found] = CocoSource(content, name)
                objects += len(content.objects[name])
                records.append(Record(found, by_path[found].file, PHOTO, split))
    if len({record.split is None for record in records}) > 1:
        raise DataError(f"{root}: some annotation files are named by their split (train, val, test) and others are not")
    ordered = tuple(sorted(records, key=lambda record: record.path))
    reading = f"{root}: read as COCO, {len(ordered):,} photos with {objects:,} objects"
    return with_second_split_as_test(Listing("manifest", ordered, tuple(problems), (), reading)), known


def _words(stem: str) -> list[str]:
    """Return the words of a name without digits: `instances_train2017` is instances, train."""
    return "".join(letter if letter.isalpha() else " " for letter in stem.lower()).split()
