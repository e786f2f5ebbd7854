"""ObjectDataset: the validated photos with their objects, as one artifact.

A folder as `MaskDataset` has it, with `objects.parquet` in place of masks: one row per object.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from graft.core.atomic import replacing
from graft.core.boundary import readable
from graft.core.parquet import read_table, write_table
from graft.imaging.decode import MAX_PIXELS
from graft.masks.dataset import MaskDataset, write_photos, write_spec
from graft.objects.instance import Instance, annotated
from graft.objects.run_length import RunLength, checked
from graft.tasks.pixels import PixelTask

OBJECTS_FILE = "objects.parquet"
COLUMNS = ("row", "label", "height", "width", "counts", "crowd")


@dataclass(frozen=True)
class ObjectDataset(MaskDataset):
    """A read-only view of the artifact at `path`."""

    @classmethod
    def open(cls, path: Path) -> "ObjectDataset":
        """Open the artifact.

        Raises:
            DataError: if the folder holds none.
        """
        found = MaskDataset.read(path, "instances")
        return cls(found.path, found.spec, found.table)

    @cached_property
    def _objects(self) -> tuple[tuple[Instance, ...], ...]:
        return read_objects(self.path, len(self))

    def objects(self, row: int) -> tuple[Instance, ...]:
        """Return the objects of a photo, crowds among them, at the photo's own size."""
        return self._objects[int(row)]


def read_objects(folder: Path, photos: int) -> tuple[tuple[Instance, ...], ...]:
    """Return the objects of every photo that `objects.parquet` in a folder holds, by row.

    Raises:
        DamagedError: if it cannot be read, or holds what no photo can have.
    """
    found: list[list[Instance]] = [[] for _ in range(photos)]
    table = read_table(folder / OBJECTS_FILE)
    with readable(folder / OBJECTS_FILE):
        for row, label, height, width, counts, crowd in table[list(COLUMNS)].itertuples(index=False, name=None):
            code = checked(RunLength(int(height), int(width), str(counts)))
            if not 0 <= row < photos:
                raise ValueError(f"row {row} of {photos} photos")
            found[int(row)].append(annotated(int(label), code, crowd=bool(crowd)))
    return tuple(tuple(objects) for objects in found)


def write_objects(
    path: Path,
    table: pd.DataFrame,
    photos: Iterable[bytes],
    objects: Sequence[Sequence[Instance]],
    task: PixelTask,
    *,
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
    name: str = "",
) -> ObjectDataset:
    """Write a dataset of task `instances`.

    Args:
        path: the artifact's folder.
        table: one row per photo, with `graft.data.dataset.TABLE_COLUMNS` and any others.
        photos: their files' bytes, in the order of the rows.
        objects: of every photo, in the same order.
        task: what is learnt.
        channels, max_pixels: of the photos.
        name: of the data set.
    """
    rows = [
        (at, one.label, one.code.height, one.code.width, one.code.counts, one.crowd)
        for at, of in enumerate(objects)
        for one in of
    ]
    marks = [
        hashlib.sha256(repr([(one.label, one.code.counts, one.crowd) for one in of]).encode()).hexdigest()
        for of in objects
    ]
    with replacing(Path(path)) as folder:
        spec = write_photos(folder, table, photos, marks, task, channels, max_pixels)
        write_table(folder / OBJECTS_FILE, pd.DataFrame(rows, columns=list(COLUMNS)))
        write_spec(folder, spec.model_copy(update={"name": name}))
    return ObjectDataset.open(path)
