"""From a folder of photos and masks to a verdict: the inventory of the photos, and what is wrong with their masks."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.core.cpu import available_cores
from graft.core.errors import DataError
from graft.core.progress import progress
from graft.data.records import SPLITS, printable
from graft.data.safe_paths import read_bytes
from graft.imaging.decode import decode
from graft.masks.dataset import MaskDataset, write_masks
from graft.masks.mask_file import MaskError, read_mask, write_mask
from graft.masks.overlay import drawn, jpeg, shrunk
from graft.masks.pairing import Pairs, pair_masks
from graft.params.validate_data import ValidateDataParams
from graft.quality.findings import KINDS, Finding, make_finding
from graft.quality.inventory import MAX_BYTES
from graft.quality.kind import Severity
from graft.quality.mask_kinds import MASK_FAULTS
from graft.quality.validation import Validation, validate, worst_first
from graft.tasks.pixels import IGNORED, PixelTask

SAME_SHAPE = 0.02
"""Width over height of photo and mask may differ by this much: such a mask is a resized copy."""
MANY_VALUES = 64
"""Masks with more different values were smoothed or saved with loss at some time."""
SHOWN_SIDE = 480
BINARY = PixelTask(kind="segment", labels=("background", "foreground"))
NOT_OF_CLASSES: Mapping[str, Severity] = dict.fromkeys(
    ("one_class", "too_few", "label_not_in_train", "label_not_in_split", "imbalance", "label_variant", "shortcut"),
    "ignore",
)
"""Findings about one label per image, which photos with masks do not have."""


@dataclass(frozen=True)
class ReadMask:
    """One mask, or why there is none."""

    png: bytes = b""
    """PNG of the values as stored, at the mask's own size."""
    height: int = 0
    width: int = 0
    values: tuple[tuple[int, int], ...] = ()
    """Every value with its number of pixels."""
    fault: str = ""
    text: str = ""


@dataclass(frozen=True)
class MaskValidation(Validation):
    """Everything known about a folder of photos and masks."""

    task: PixelTask = BINARY
    masks: Mapping[int, bytes] = field(default_factory=dict)
    """PNG of class indices of every kept photo, by its row."""

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Kept photos per split."""
        return photo_counts(self.inventory.kept)

    def write(self, path: Path, name: str = "") -> MaskDataset:  # type: ignore[override]
        """Write the kept photos and their masks as the dataset artifact, under a name."""
        kept = self.inventory.kept
        masks = [self.masks[int(row)] for row in kept.index]
        limits = {"channels": self.channels, "max_pixels": self.max_pixels}
        return write_masks(path, self.table(), self.inventory.contents(), masks, self.task, name=name, **limits)


def validate_masks(
    root: Path, params: ValidateDataParams, say: Callable[[str], None] = lambda _: None
) -> MaskValidation:
    """Examine and check the photos and masks of the folder `root`.

    Raises:
        DataError: if there are no photos with masks in a known layout.
        ParamsError: if a severity is set for an unknown kind.
    """
    pairs = pair_masks(root)
    base = validate(root, of_photos(params), say, pairs.listing)
    kept = base.inventory.kept
    read = dict(zip(kept.index, _read_all(kept, pairs, params), strict=True))
    judged = _Judged(base.inventory.images, kept, read, params)
    task, indices = judged.classes()
    found = [*judged.faults(), *judged.about(task, indices)]
    if pairs.alone:
        found.append(_finding(params, "mask_alone", pairs.alone))
    bad = {row: read[row].fault for row in read if read[row].fault} | judged.unnamed
    base.inventory.images.loc[list(bad), "dropped"] = list(bad.values())
    masks = {row: _png(read[row], indices) for row in read if row not in bad}

    def picture(row: int) -> bytes:
        content = read_bytes(base.inventory.files[row], MAX_BYTES, resolved=True)
        photo = shrunk(decode(content, params.max_pixels), SHOWN_SIDE)
        return jpeg(drawn(photo, read_mask(masks[row]).values.astype(np.uint8)) if row in masks else photo)

    values = {one.name: getattr(base, one.name) for one in fields(Validation)}
    values |= {"findings": tuple(worst_first([*base.findings, *found])), "picture": picture}
    return MaskValidation(**values, task=task, masks=masks)


def of_photos(params: ValidateDataParams) -> ValidateDataParams:
    """Return the parameters with which photos are examined whose label is in their mask."""
    return params.model_copy(update={"severity": {**NOT_OF_CLASSES, **params.severity}})


def photo_counts(kept: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return the number of photos in each split that has some."""
    numbers = Counter(kept["split"])
    return {split: {"photos": numbers[split]} for split in SPLITS if numbers[split]}


def severity_of(params: ValidateDataParams, kind: str) -> Severity:
    """Return the severity that a kind of finding has by the parameters."""
    chosen: Severity = params.severity.get(kind, KINDS[kind].severity)
    return "warn" if kind in MASK_FAULTS and chosen == "fail" and params.on_bad_image == "drop" else chosen


def _finding(params: ValidateDataParams, kind: str, files: Sequence[str], detail: str = "") -> Finding:
    return make_finding(kind, severity_of(params, kind), list(files), detail)


def _read_all(kept: pd.DataFrame, pairs: Pairs, params: ValidateDataParams) -> Iterator[ReadMask]:
    rows = list(kept[["path", "width", "height", "orientation"]].itertuples(index=False, name=None))

    def one(row: tuple[str, int, int, int]) -> ReadMask:
        path, width, height, orientation = row
        file = pairs.masks.get(path)
        if file is None:
            return ReadMask(fault="mask_missing", text="no mask of this name")
        try:
            values = read_mask(read_bytes(file, MAX_BYTES, resolved=True), params.max_pixels).values
        except MaskError as error:
            return ReadMask(fault=error.kind, text=str(error))
        except DataError as error:
            return ReadMask(fault="mask_unreadable", text=str(error))
        fault, text = size_fault(values.shape, (height, width), orientation)
        numbers, pixels = np.unique(values, return_counts=True)
        found = tuple(zip(numbers.tolist(), pixels.tolist(), strict=True))
        return ReadMask(write_mask(np.clip(values, 0, 65535)), len(values), values.shape[1], found, fault, text)

    with ThreadPoolExecutor(available_cores()) as pool:
        yield from progress(pool.map(one, rows), "masks", total=len(rows))


def size_fault(mask: tuple[int, ...], photo: tuple[int, int], orientation: int) -> tuple[str, str]:
    """Return the kind of finding and a clause if a mask (h, w) does not fit its photo (h, w); else two empty texts."""
    height, width = photo
    shape, own = width / height, mask[1] / mask[0]
    if abs(own / shape - 1) <= SAME_SHAPE:
        return "", ""
    sizes = f"mask {mask[1]} x {mask[0]}, photo {width} x {height}"
    if orientation >= 5 and abs(own * shape - 1) <= SAME_SHAPE:
        return "mask_rotated", f"{sizes} after its EXIF rotation"
    return "mask_size", sizes


@dataclass
class _Judged:
    """What the masks hold, and what is wrong with that."""

    images: pd.DataFrame
    kept: pd.DataFrame
    read: Mapping[int, ReadMask]
    params: ValidateDataParams
    unnamed: dict[int, str] = field(default_factory=dict)
    """Rows whose masks have values without a name."""
    binary: bool = False

    def classes(self) -> tuple[PixelTask, dict[int, int]]:
        """Return the task, and the class index of every value in the masks."""
        found = {value for one in self.read.values() if not one.fault for value, _ in one.values}
        named, ignored = self.params.mask_values, self.params.mask_ignore
        if ignored is None and IGNORED in found and IGNORED not in named and (named or len(found) == 3):
            ignored = IGNORED
        known = sorted(found - {ignored})
        if named:
            labels = tuple(dict.fromkeys(named.values()))  # several values may be one class
            indices = {value: labels.index(name) for value, name in named.items()}
        else:
            self.binary = len(known) <= 2
            labels = ("background", "foreground")
            indices = {value: index for index, value in enumerate(known)} if self.binary else {}
            if self.binary and len(known) == 1:
                indices = {known[0]: int(known[0] > 0)}
        if not 1 < len(labels) <= IGNORED:
            raise DataError(f"validate_data.mask_values: expected 2 to {IGNORED} classes, found {len(labels)}")
        indices |= {} if ignored is None else {ignored: IGNORED}
        for row, one in self.read.items():
            if not one.fault and any(value not in indices for value, _ in one.values):
                self.unnamed[row] = "mask_values"
        return PixelTask(kind="segment", labels=labels), indices

    def faults(self) -> Iterator[Finding]:
        """Yield a finding for every kind of mask that cannot be learnt from."""
        for kind in MASK_FAULTS:
            rows = [row for row, one in self.read.items() if one.fault == kind]
            if kind == "mask_values":
                if self.unnamed:
                    yield self._values()
            elif rows:
                named = [f"{printable(self._path(row))} ({self.read[row].text})" for row in rows[:3]]
                more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
                text = f"{KINDS[kind].title}: {len(rows)}: {', '.join(named)}{more}"
                yield _finding(self.params, kind, self._paths(rows), text)

    def _values(self) -> Finding:
        values = Counter(value for row in self.unnamed for value, _ in self.read[row].values)
        unknown = sorted(set(values) - set(self.params.mask_values))
        if len(unknown) > MANY_VALUES:
            text = f"{len(unknown)} different values: smoothed or saved with loss at some time; save masks as PNG"
        else:
            listed = ", ".join(map(str, unknown[:12])) + (" ..." if len(unknown) > 12 else "")
            text = f"values {listed} without a name: set validate_data.mask_values={{0: background, 1: ...}}"
        return _finding(self.params, "mask_values", self._paths(self.unnamed), text)

    def about(self, task: PixelTask, indices: Mapping[int, int]) -> Iterator[Finding]:
        """Yield what is odd about masks that can be learnt from."""
        usable = {row: one for row, one in self.read.items() if not one.fault and row not in self.unnamed}
        shares = {row: _shares(one, indices, len(task.labels)) for row, one in usable.items()}
        empty = [row for row, share in shares.items() if not share[1:].any()]
        full = [row for row, share in shares.items() if share[1:].max(initial=0) >= share.sum() > 0]
        height, width = self.kept["height"], self.kept["width"]
        other = [row for row, one in usable.items() if (one.height, one.width) != (height[row], width[row])]
        for kind, rows in (("mask_empty", empty), ("mask_full", full), ("mask_resized", other)):
            if rows:
                yield _finding(self.params, kind, self._paths(rows))
        if self.binary and usable:
            pairs = ", ".join(f"{value} is {task.labels[at]}" for value, at in indices.items() if at != IGNORED)
            yield _finding(self.params, "mask_binary", (), f"two values in all masks: {pairs}")
        yield from self._labels(task, shares)

    def _labels(self, task: PixelTask, shares: Mapping[int, npt.NDArray[np.int64]]) -> Iterator[Finding]:
        split = self.kept["split"]
        for label, name in enumerate(task.labels):
            photos = Counter(split[row] for row, share in shares.items() if share[label])
            used = [one for one in SPLITS if (split == one).any()]
            lacking = [one for one in used if not photos[one]]
            if "train" in lacking:
                text = f"labels that training never sees: {printable(name)!r} is in no training mask"
                yield _finding(self.params, "label_not_in_train", (name,), text)
            elif lacking:
                text = f"labels missing from a split: {printable(name)!r} is in no mask of {' and '.join(lacking)}"
                yield _finding(self.params, "label_not_in_split", (name,), text)

    def _path(self, row: int) -> str:
        return str(self.images.at[row, "path"])

    def _paths(self, rows: Sequence[int] | Mapping[int, object]) -> list[str]:
        return [self._path(row) for row in rows]


def _shares(mask: ReadMask, indices: Mapping[int, int], classes: int) -> npt.NDArray[np.int64]:
    """Return the number of pixels of every class (k,)."""
    pixels = np.zeros(IGNORED + 1, np.int64)
    for value, count in mask.values:
        pixels[indices[value]] += count
    return pixels[:classes]


def _png(mask: ReadMask, indices: Mapping[int, int]) -> bytes:
    """Return the mask with class indices in place of its values."""
    table = np.full(max(value for value, _ in mask.values) + 1, IGNORED, np.uint8)
    for value, _ in mask.values:
        table[value] = indices[value]
    return write_mask(table[read_mask(mask.png).values])
