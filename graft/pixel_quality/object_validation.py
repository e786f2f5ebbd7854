"""From a folder of photos with outlined objects to a verdict: COCO's annotation files, or masks that number objects."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pandas as pd

from graft.core.errors import DataError
from graft.core.progress import progress
from graft.data.records import SPLITS, printable
from graft.data.safe_paths import read_bytes
from graft.imaging.decode import decode
from graft.masks.mask_file import MaskError, read_mask
from graft.masks.overlay import jpeg, shrunk
from graft.masks.pairing import pair_masks
from graft.objects.coco import OutlineError, outlined
from graft.objects.instance import Instance, annotated
from graft.objects.object_dataset import ObjectDataset, write_objects
from graft.objects.overlay import with_objects
from graft.objects.run_length import RunLength, encode
from graft.params.validate_data import ValidateDataParams
from graft.pixel_quality.coco_listing import CocoSource, coco_files, list_coco
from graft.pixel_quality.mask_validation import SHOWN_SIDE, of_photos, photo_counts, severity_of, size_fault
from graft.quality.findings import KINDS, Finding, make_finding
from graft.quality.inventory import MAX_BYTES
from graft.quality.validation import Validation, validate, worst_first
from graft.tasks.pixels import PixelTask

LEAST_AREA = 16
"""Pixels of the smallest object that can be learnt."""
UNNAMED = "object"
ONE_KIND = PixelTask(kind="instances", labels=(UNNAMED,))
OBJECTS_ALONE = ("polygon", "tiny_object")
"""Kinds of finding about one object: if they do not fail, it alone is left out, and not its photo."""


@dataclass(frozen=True)
class ObjectValidation(Validation):
    """Everything known about a folder of photos and objects."""

    task: PixelTask = ONE_KIND
    objects: Mapping[int, Sequence[Instance]] = field(default_factory=dict)
    """The objects of every photo that has some, by its row."""

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Kept photos per split."""
        return photo_counts(self.inventory.kept)

    def write(self, path: Path, name: str = "") -> ObjectDataset:  # type: ignore[override]
        """Write the kept photos and their objects as the dataset artifact, under a name."""
        objects = [self.objects.get(int(row), ()) for row in self.inventory.kept.index]
        limits = {"channels": self.channels, "max_pixels": self.max_pixels}
        return write_objects(path, self.table(), self.inventory.contents(), objects, self.task, name=name, **limits)


@dataclass
class _Read:
    """The objects of every photo, and what is wrong with them."""

    labels: tuple[str, ...]
    objects: dict[int, list[Instance]] = field(default_factory=dict)
    faults: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    """Rows of photos with a clause, by kind of finding."""

    def add(self, row: int, label: int, code: RunLength, *, crowd: bool = False) -> None:
        """Keep an object, or note that it is too small."""
        if code.area < LEAST_AREA:
            self.fault("tiny_object", row, f"{code.area} pixels")
        else:
            self.objects.setdefault(row, []).append(annotated(label, code, crowd=crowd))

    def fault(self, kind: str, row: int, text: str) -> None:
        """Note what is wrong with a photo's objects."""
        self.faults.setdefault(kind, []).append((row, text))


def validate_objects(
    root: Path, params: ValidateDataParams, say: Callable[[str], None] = lambda _: None
) -> ObjectValidation:
    """Examine and check the photos and objects of the folder `root`.

    Raises:
        DataError: if there are neither COCO annotations nor masks that number objects, or a COCO file is broken.
        ParamsError: if a severity is set for an unknown kind.
    """
    files = coco_files(root)
    alone: tuple[str, ...] = ()
    if files:
        listing, known = list_coco(root, files)
        base = validate(root, of_photos(params), say, listing)
        read = _of_coco(base.inventory.kept, known)
    else:
        pairs = pair_masks(root, "instances")
        alone = pairs.alone
        base = validate(root, of_photos(params), say, pairs.listing)
        read = _of_masks(base.inventory.kept, pairs.masks, params)
    images, kept = base.inventory.images, base.inventory.kept
    findings = list(_findings(read, images, kept, params))
    if alone:
        findings.append(make_finding("mask_alone", severity_of(params, "mask_alone"), list(alone)))
    for kind, faulty in read.faults.items():
        if kind not in OBJECTS_ALONE:
            images.loc[[row for row, _ in faulty], "dropped"] = kind

    def picture(row: int) -> bytes:
        content = read_bytes(base.inventory.files[row], MAX_BYTES, resolved=True)
        return jpeg(with_objects(shrunk(decode(content, params.max_pixels), SHOWN_SIDE), read.objects.get(row, ())))

    values = {one.name: getattr(base, one.name) for one in fields(Validation)}
    values |= {"findings": tuple(worst_first([*base.findings, *findings])), "picture": picture}
    return ObjectValidation(**values, task=PixelTask(kind="instances", labels=read.labels), objects=read.objects)


def _of_coco(kept: pd.DataFrame, known: Mapping[str, CocoSource]) -> _Read:
    read = _Read(next(iter(known.values())).file.labels if known else (UNNAMED,))
    rows = list(kept[["path", "height", "width", "orientation"]].itertuples(name=None))
    for row, path, height, width, orientation in progress(rows, "objects", total=len(rows), unit="photos"):
        source, size = known[path], (int(height), int(width))
        listed = source.size
        if listed is not None and listed != size:
            kind = "mask_rotated" if listed == size[::-1] and orientation >= 5 else "mask_size"
            read.fault(kind, int(row), f"outlined at {listed[1]} x {listed[0]}, photo {size[1]} x {size[0]}")
            continue
        for one in source.objects:
            try:
                read.add(int(row), one.label, outlined(one.segmentation, *size), crowd=one.crowd)
            except OutlineError as error:
                read.fault("polygon", int(row), str(error))
    return read


def _of_masks(kept: pd.DataFrame, masks: Mapping[str, str], params: ValidateDataParams) -> _Read:
    """Read masks whose values number the objects of one kind, 0 for none."""
    named = [name for value, name in params.mask_values.items() if value != 0]
    if len(set(named)) > 1:
        raise DataError(
            f"validate_data.mask_values: masks that number objects have one kind, found {', '.join(named[:5])}; "
            "several kinds need a COCO file, and a class per pixel validate_data.task=segment"
        )
    read = _Read((named[0] if named else UNNAMED,))
    rows = list(kept[["path", "height", "width", "orientation"]].itertuples(name=None))
    for row, path, height, width, orientation in progress(rows, "objects", total=len(rows), unit="photos"):
        if path not in masks:
            read.fault("mask_missing", int(row), "no mask of this name")
            continue
        try:
            values = read_mask(read_bytes(masks[path], MAX_BYTES, resolved=True), params.max_pixels).values
        except MaskError as error:
            read.fault(error.kind, int(row), str(error))
            continue
        except DataError as error:
            read.fault("mask_unreadable", int(row), str(error))
            continue
        kind, text = size_fault(values.shape, (int(height), int(width)), int(orientation))
        if kind:
            read.fault(kind, int(row), text)
            continue
        down = (np.arange(int(height)) * len(values) // int(height))[:, None]
        whole = values[down, np.arange(int(width)) * values.shape[1] // int(width)]
        for number in np.unique(whole[whole > 0]):
            if number != params.mask_ignore:
                read.add(int(row), 0, encode(whole == number))
    return read


def _findings(read: _Read, images: pd.DataFrame, kept: pd.DataFrame, params: ValidateDataParams) -> Iterator[Finding]:
    for kind, faulty in read.faults.items():
        rows = list(dict.fromkeys(row for row, _ in faulty))
        named = [f"{printable(str(images.at[row, 'path']))} ({text})" for row, text in faulty[:3]]
        more = f" and {len(faulty) - 3} more" if len(faulty) > 3 else ""
        text = f"{KINDS[kind].title}: {len(faulty)}: {', '.join(named)}{more}"
        yield make_finding(kind, severity_of(params, kind), [str(images.at[row, "path"]) for row in rows], text)
    bad = {row for kind, faulty in read.faults.items() if kind not in OBJECTS_ALONE for row, _ in faulty}
    without = [str(images.at[row, "path"]) for row in kept.index if row not in read.objects and row not in bad]
    if without:
        yield make_finding("no_objects", severity_of(params, "no_objects"), without)
    split = kept["split"]
    for label, name in enumerate(read.labels):
        photos = Counter(split[row] for row, found in read.objects.items() if any(one.label == label for one in found))
        lacking = [one for one in SPLITS if (split == one).any() and not photos[one]]
        if "train" in lacking:
            text = f"labels that training never sees: {printable(name)!r} is in no training photo"
            yield make_finding("label_not_in_train", severity_of(params, "label_not_in_train"), (name,), text)
        elif lacking:
            text = f"labels missing from a split: {printable(name)!r} is in no photo of {' and '.join(lacking)}"
            yield make_finding("label_not_in_split", severity_of(params, "label_not_in_split"), (name,), text)
