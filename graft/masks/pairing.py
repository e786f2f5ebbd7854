"""Which mask belongs to which photo: equal file names in folders such as `images/` and `masks/`, or a manifest."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from graft.core.errors import DataError
from graft.data.folder_names import splits_of
from graft.data.folder_tree import Tree, TreeFile, read_tree
from graft.data.listing import with_second_split_as_test
from graft.data.manifest import MANIFESTS, meant_path, read_manifest
from graft.data.records import SPLIT_NAMES, Listing, Problem, Record, Split, printable
from graft.data.safe_paths import check_path
from graft.tasks.pixels import Kind

PHOTO = "photo"
"""The label of every photo in the inventory: what there is to learn is in its mask."""
IMAGE_FOLDERS = frozenset(
    {
        *("images", "image", "imgs", "img", "photos", "pictures", "inputs", "input", "jpegimages", "pngimages"),
        *("training_images", "leftimg8bit", "raw"),
    }
)
MASK_FOLDERS = frozenset(
    {
        *("masks", "mask", "labels", "label", "annotations", "annotation", "ground_truth", "groundtruth", "gt"),
        *("targets", "target", "segmentationclass", "segmentations", "segmentation", "pedmasks", "gtfine"),
    }
)
_ENDINGS = ("_mask", "_masks", "_label", "_labels", "_gt", "_seg", "_segmentation", "-mask")
EXPECTED = "images/ and masks/ with equal file names, or a manifest.csv with the columns path and mask"


@dataclass(frozen=True)
class Pairs:
    """The photos of a folder with their masks."""

    listing: Listing
    """The photos."""
    masks: Mapping[str, str]
    """Real path of each photo's mask file, by the photo's path; photos without one are not in it."""
    alone: tuple[str, ...] = ()
    """Masks without a photo."""

    @property
    def without(self) -> tuple[str, ...]:
        """Photos without a mask."""
        return tuple(record.path for record in self.listing.records if record.path not in self.masks)


def pair_masks(root: Path, task: Kind = "segment") -> Pairs:
    """Find the photos below `root` and the mask of each.

    Args:
        root: the data folder.
        task: named if the data does not fit it.

    Raises:
        DataError: if there are no photos with masks in a known layout.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected {EXPECTED}")
    name, root = str(root), root.resolve()
    manifest = next((root / file for file in MANIFESTS if (root / file).is_file()), None)
    found = _of_manifest(root, manifest, task) if manifest else _of_folders(name, read_tree(root), task)
    return replace(found, listing=with_second_split_as_test(found.listing))


def _of_manifest(root: Path, file: Path, task: Kind) -> Pairs:
    manifest = read_manifest(file, needs=("path",))
    if "mask" not in manifest.extra:
        raise DataError(f"{file}: no column 'mask'; task {task} needs path and mask, and may have split, group, domain")
    records: list[Record] = []
    problems: list[Problem] = []
    masks: dict[str, str] = {}
    splits = splits_of({value.strip() for value in manifest.values("split")}) if "split" in manifest.named else {}
    for line, row, extra in manifest.rows():
        where = f"{file.name} line {line}"
        path = meant_path(root, row["path"])
        photo = _file(root, path, where)
        if isinstance(photo, Problem):
            problems.append(photo)
            continue
        split = row.get("split", "").strip()
        if split and split not in splits:
            raise DataError(f"{where}: split {split!r}; expected train, val or test")
        others = {name: value for name, value in extra.items() if name != "mask"}
        given = splits.get(split)
        records.append(Record(path, photo, PHOTO, given, row.get("group", ""), row.get("domain", ""), others))
        mask = _file(root, meant_path(root, extra["mask"]), where) if extra["mask"] else None
        if isinstance(mask, str):
            masks[path] = mask
    ordered = tuple(sorted(records, key=lambda record: record.path))
    reading = f"{file.name}: {len(ordered):,} photos, {len(masks):,} with a mask"
    return Pairs(Listing("manifest", ordered, tuple(problems), (), reading), masks)


def _file(root: Path, name: str, where: str) -> str | Problem:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\0" in name:
        return Problem("path_escape", name, f"{where} leads out of the data folder")
    return check_path(root, root / name)


@dataclass(frozen=True)
class _Place:
    """Where a photo or a mask lies: the folders beside the one that says which of the two it is, and its name."""

    folders: tuple[str, ...]
    stem: str


def _of_folders(name: str, tree: Tree, task: Kind) -> Pairs:
    photos: dict[_Place, TreeFile] = {}
    masks: dict[_Place, TreeFile] = {}
    for file in tree.images:
        lowered = [folder.lower() for folder in file.folders]
        at = next((at for at, folder in enumerate(lowered) if folder in IMAGE_FOLDERS | MASK_FOLDERS), None)
        if at is None:
            continue
        rest = (*file.folders[:at], *file.folders[at + 1 :])
        stem = PurePosixPath(file.path).stem
        if lowered[at] in MASK_FOLDERS:
            masks[_Place(rest, _without_ending(stem))] = file
        else:
            photos[_Place(rest, stem)] = file
    if not photos or not masks:
        raise DataError(_unknown(name, tree, task, bool(photos)))
    records = [Record(file.path, file.file, PHOTO, _split(place.folders)) for place, file in photos.items()]
    found = {file.path: masks[place].file for place, file in photos.items() if place in masks}
    alone = tuple(sorted(file.path for place, file in masks.items() if place not in photos))
    problems = tuple(problem for _, problem in tree.problems)
    ordered = tuple(sorted(records, key=lambda record: record.path))
    reading = f"{name}: read as photos and masks, {len(ordered):,} photos, {len(found):,} with a mask of the same name"
    return Pairs(Listing("class folders", ordered, problems, (), reading), found, alone)


def _split(folders: tuple[str, ...]) -> Split | None:
    return next((SPLIT_NAMES[folder.lower()] for folder in folders if folder.lower() in SPLIT_NAMES), None)


def _without_ending(stem: str) -> str:
    return next((stem.removesuffix(end) for end in _ENDINGS if stem.lower().endswith(end)), stem)


def _unknown(name: str, tree: Tree, task: Kind, photos: bool) -> str:
    folders = sorted({file.folders[0] for file in tree.images if file.folders})
    if not tree.images:
        return f"{name}: no image files here; expected {EXPECTED}"
    if photos:
        return f"{name}: no folder of masks (masks/, labels/, annotations/) beside the photos; expected {EXPECTED}"
    named = ", ".join(printable(folder) for folder in folders[:5]) or "none"
    return (
        f"{name}: these are class folders ({named}), and task {task} needs a mask for each photo: {EXPECTED}; "
        "validate_data.task=classify learns the classes"
    )
