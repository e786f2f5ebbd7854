"""MaskDataset: the validated photos with their masks or objects, as one artifact.

A folder as `ImageDataset` writes it (`dataset.json`, `table.parquet`, `images-00000.arrow`, ...), with
`masks-00000.arrow`, ...: one PNG of class indices for each photo, at the mask's own size.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict

from graft.core.artifact import read_spec
from graft.core.atomic import replacing, write_json
from graft.core.errors import DataError
from graft.core.parquet import read_table, write_table
from graft.data.records import SPLITS, Split
from graft.data.row_shards import ImageReader, write_shards
from graft.imaging.decode import MAX_PIXELS
from graft.masks.mask_file import Indices, read_mask
from graft.tasks.pixels import Kind, PixelTask, pixel_task

SPEC_FILE, TABLE_FILE = "dataset.json", "table.parquet"


class MaskDatasetSpec(BaseModel):
    """The content of `dataset.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    classes: tuple[str, ...]
    task: PixelTask
    digest: str
    shards: tuple[int, ...]
    """Number of photos in each shard file."""
    mask_shards: tuple[int, ...] = ()
    """Number of masks in each of theirs."""
    channels: int = 3
    max_pixels: int = MAX_PIXELS
    name: str = ""
    """Of the data set, from which registered models are named; empty if it is unknown."""


@dataclass(frozen=True)
class MaskDataset:
    """A read-only view of the artifact at `path`; photos and masks are read on demand."""

    path: Path
    spec: MaskDatasetSpec
    table: pd.DataFrame

    @classmethod
    def read(cls, path: Path, kind: Kind) -> "MaskDataset":
        """Open the artifact of a task of this kind.

        Raises:
            DataError: if the folder holds none.
        """
        path = Path(path)
        found = pixel_task(path)
        if found is None or found.kind != kind:
            raise DataError(
                f"{path}: holds no dataset of task {kind}; run validate_data with validate_data.task={kind}"
            )
        spec = read_spec(path / SPEC_FILE, MaskDatasetSpec, content="dataset of masks", step="validate_data")
        return cls(path, spec, read_table(path / TABLE_FILE))

    def __len__(self) -> int:
        """Return the number of photos."""
        return len(self.table)

    @property
    def task(self) -> PixelTask:
        """What is learnt."""
        return self.spec.task

    @property
    def tasks(self) -> tuple[PixelTask, ...]:
        """All questions of the photos: one."""
        return (self.spec.task,)

    @property
    def ids(self) -> npt.NDArray[np.object_]:
        """Content hash of every photo (n,)."""
        return self.table["id"].to_numpy(dtype=object)

    @property
    def groups(self) -> npt.NDArray[np.object_]:
        """Name of every photo's group (n,)."""
        return self.table["group"].to_numpy(dtype=object)

    def rows(self, split: Split) -> npt.NDArray[np.int64]:
        """Return the rows of one split, ascending."""
        return np.flatnonzero(self.table["split"].to_numpy() == split)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of photos by split, for each split that has some."""
        return {split: {"photos": len(self.rows(split))} for split in SPLITS if len(self.rows(split))}

    @cached_property
    def photos(self) -> ImageReader:
        """The photos' bytes by row."""
        return ImageReader(self.path, self.spec.shards)

    @cached_property
    def _masks(self) -> ImageReader:
        return ImageReader(self.path, self.spec.mask_shards, "masks")

    def mask(self, row: int) -> Indices:
        """Return the class index of every pixel of a photo's mask, uint8 (h, w) at the mask's own size."""
        return read_mask(self._masks[int(row)], self.spec.max_pixels).values.astype(np.uint8)


def write_masks(
    path: Path,
    table: pd.DataFrame,
    photos: Iterable[bytes],
    masks: Sequence[bytes],
    task: PixelTask,
    *,
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
    name: str = "",
) -> MaskDataset:
    """Write a dataset of task `segment`.

    Args:
        path: the artifact's folder.
        table: one row per photo, with `graft.data.dataset.TABLE_COLUMNS` and any others.
        photos: their files' bytes, in the order of the rows.
        masks: PNGs of class indices, in the same order.
        task: what is learnt.
        channels, max_pixels: of the photos.
        name: of the data set.
    """
    marks = [hashlib.sha256(mask).hexdigest() for mask in masks]
    with replacing(Path(path)) as folder:
        spec = write_photos(folder, table, photos, marks, task, channels, max_pixels)
        kept = list(write_shards(folder, zip(table["path"], masks, strict=True), "masks"))
        write_spec(folder, spec.model_copy(update={"mask_shards": tuple(kept), "name": name}))
    return MaskDataset.read(path, "segment")


def write_photos(
    folder: Path,
    table: pd.DataFrame,
    photos: Iterable[bytes],
    marks: Sequence[str],
    task: PixelTask,
    channels: int,
    max_pixels: int,
) -> MaskDatasetSpec:
    """Write photos and their table into `folder`, which is made; return the record, whose digest covers `marks` too.

    Args:
        folder: of the artifact.
        table: one row per photo.
        photos: their files' bytes.
        marks: a digest of what is to be learnt from each.
        task: what is learnt.
        channels, max_pixels: of the photos.
    """
    folder.mkdir(parents=True)
    shards = tuple(write_shards(folder, zip(table["path"], photos, strict=True)))
    write_table(folder / TABLE_FILE, table.reset_index(drop=True))
    rows = sorted(zip(table["id"], marks, table["split"], strict=True))
    digest = hashlib.sha256("\n".join("\t".join(row) for row in rows).encode()).hexdigest()
    return MaskDatasetSpec(
        classes=task.labels, task=task, digest=digest, shards=shards, channels=channels, max_pixels=max_pixels
    )


def write_spec(folder: Path, spec: MaskDatasetSpec) -> None:
    """Write the artifact's record."""
    content: dict[str, Any] = spec.model_dump(mode="json")
    write_json(folder / SPEC_FILE, content)
