"""ImageDataset: the validated images as one artifact, bytes and table in a few large files.

A folder with

- `dataset.json`: format version, classes in order, content digest, channels;
- `table.parquet`: one row per image (see `TABLE_COLUMNS`), plus any extra column of the user's manifest;
- `train/`, `val/`, `test/`: the images of each split with their labels, as Hugging Face's `datasets` has them on disk
  (`arrow_shards`): `datasets.load_from_disk(folder)` opens all splits. The files are memory-mapped: any image is read
  without a copy and without reading its neighbours.

A few large files are much faster for DVC and object stores than one file per image.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator

from graft.core.artifact import read_spec
from graft.core.atomic import replacing, write_json
from graft.core.errors import DamagedError, DataError
from graft.core.parquet import read_table, write_table
from graft.data.arrow_shards import SplitReader, columns_of, write_splits
from graft.data.records import SPLITS, Split
from graft.imaging.decode import MAX_PIXELS
from graft.imaging.value_range import ValueRange
from graft.tasks.kinds import parse_task, with_task
from graft.tasks.pixels import pixel_task
from graft.tasks.single_label import SingleLabel
from graft.tasks.task import Targets, Task

SPEC_FILE, TABLE_FILE = "dataset.json", "table.parquet"
TABLE_COLUMNS = (
    "id",  # sha256 of the file's bytes, hex
    "path",  # relative to the data folder, posix
    "label",
    "split",
    "group",  # splits made here never divide a group
    "domain",  # the user's column, empty if there is none
    "format",
    "mode",
    "width",
    "height",
    "bytes",
)


class DatasetSpec(BaseModel):
    """The content of `dataset.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[2] = 2
    classes: tuple[str, ...]
    """Names of the task's outputs, in order."""
    task: SerializeAsAny[Task]
    digest: str
    shards: dict[str, tuple[int, ...]]
    """Number of images in each shard of each split."""
    channels: int = 3
    """Channels of every image as read: 3 is RGB and 1 grey, converted from any image; others are bands as stored."""
    name: str = ""
    """Of the data set, see `graft.data.source`; models are registered under it unless another name is given."""
    max_pixels: int = MAX_PIXELS
    """The limit that every image was checked against; who decodes them later has the same."""
    value_range: ValueRange | None = None
    """What is black and white in all wide images; None if there are none."""
    further_tasks: tuple[SerializeAsAny[Task], ...] = Field((), exclude_if=lambda tasks: not tasks)
    """Other questions of the same images, each with labels of its own."""

    @model_validator(mode="before")
    @classmethod
    def _with_task(cls, content: Any) -> Any:
        return with_task(content, "classes")


class LabelledTable(ABC):
    """What an artifact with a table of images, one row each, says of their splits and targets."""

    table: pd.DataFrame

    @property
    @abstractmethod
    def task(self) -> Task:
        """The task: what is learnt from the images."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.table)

    @property
    def further_tasks(self) -> tuple[Task, ...]:
        """Other tasks of the same images."""
        return ()

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks, the first one first."""
        return (self.task, *self.further_tasks)

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels, in the order of the model's outputs."""
        return self.task.labels

    def indices(self, split: Split) -> npt.NDArray[np.int64]:
        """Return the rows of one split, ascending."""
        return np.flatnonzero(self.table["split"].to_numpy() == split)

    def labelled(self, split: Split) -> npt.NDArray[np.int64]:
        """Return the rows of one split that have a target, ascending."""
        rows = self.indices(split)
        return rows[self.task.labelled(self.targets()[rows])]

    def targets(self) -> Targets:
        """Return the task's target of every row; for a task with one label per image, the class index, int64 (n,)."""
        return self.task.targets(self.table)


@dataclass(frozen=True)
class ImageDataset(LabelledTable):
    """A read-only view of the artifact at `path`; images are read on demand."""

    path: Path
    spec: DatasetSpec
    table: pd.DataFrame

    @classmethod
    def read(cls, path: Path) -> "ImageDataset":
        """Open the artifact written by `write_dataset`.

        Raises:
            DataError: if the folder holds no dataset, or one of another format.
        """
        path = Path(path)
        if (masks := pixel_task(path)) is not None:
            parse_task(masks.model_dump(), ())  # says what masks are not for; they have a format of their own
        spec = read_spec(path / SPEC_FILE, DatasetSpec, content="image dataset", step="validate_data")
        table = read_table(path / TABLE_FILE)
        rows = sum(map(sum, spec.shards.values()))
        if len(table) != rows:
            raise DamagedError(f"{path}: {len(table):,} rows, but {SPEC_FILE} says {rows:,}; run validate_data again")
        return cls(path, spec, table)

    @property
    def task(self) -> Task:
        """The task: what is learnt from the images."""
        return self.spec.task

    @property
    def further_tasks(self) -> tuple[Task, ...]:
        """Other tasks of the same images."""
        return self.spec.further_tasks

    def of_task(self, task: Task) -> "ImageDataset":
        """Return the same images with one of their tasks alone."""
        alone = {"task": task, "classes": task.labels, "further_tasks": ()}
        return replace(self, spec=self.spec.model_copy(update=alone))

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of labelled images per split and answer; splits without images are left out."""
        targets = self.targets()
        return {split: self.task.counts(targets[rows]) for split in SPLITS if len(rows := self.indices(split))}

    def image(self, row: int) -> bytes:
        """Return the image file's bytes of one row."""
        content: bytes = self.reader()[row]
        return content

    def reader(self) -> SplitReader:
        """Open the shards for random access; use one reader per thread or process."""
        return SplitReader(self.path, self.spec.shards, self.table["split"].tolist(), self.table["id"].tolist())


def write_dataset(
    path: Path,
    table: pd.DataFrame,
    images: Iterable[bytes],
    classes: Sequence[str],
    channels: int = 3,
    task: Task | None = None,
    max_pixels: int = MAX_PIXELS,
    name: str = "",
    value_range: ValueRange | None = None,
    further_tasks: Sequence[Task] = (),
) -> ImageDataset:
    """Write the artifact; `images` is streamed and yields the file's bytes of each row of `table`, in order.

    The digest covers content, labels and splits, but neither paths nor the order of rows.

    Args:
        path: the artifact's folder; replaced if it exists.
        table: with `TABLE_COLUMNS` and any other columns.
        images: the files' bytes.
        classes: names of the outputs, in order.
        channels: of every image.
        task: what is learnt; None: which of `classes` an image shows.
        max_pixels: the limit that they were checked against.
        name: of the data set.
        value_range: what is black and white in the wide ones.
        further_tasks: other questions of the same images.

    Raises:
        DataError: if a column is missing, or a row has no split.
        ValueError: if the number of images differs from the number of rows.
    """
    missing = [column for column in TABLE_COLUMNS if column not in table.columns]
    if missing:
        raise DataError(f"table without column {', '.join(missing)}")
    table = table.reset_index(drop=True)
    learnt = task or SingleLabel(labels=tuple(classes))
    with replacing(Path(path)) as folder:
        folder.mkdir(parents=True)
        content = digest(table, learnt, further_tasks)
        labels = learnt.targets(table).tolist() if isinstance(learnt, SingleLabel) else None
        more = [name for name in table.columns if name == "domain" or name not in TABLE_COLUMNS]
        columns = columns_of(table, labels, learnt.labels, more)
        shards = write_splits(folder, table["split"].tolist(), table["path"].tolist(), images, columns, content)
        write_table(folder / TABLE_FILE, table)
        spec = DatasetSpec(
            classes=tuple(classes),
            task=learnt,
            digest=content,
            shards=shards,
            channels=channels,
            name=name,
            max_pixels=max_pixels,
            value_range=value_range,
            further_tasks=tuple(further_tasks),
        )
        write_json(folder / SPEC_FILE, spec.model_dump(mode="json"))
    return ImageDataset.read(path)


def digest(table: pd.DataFrame, task: Task, further_tasks: Sequence[Task] = ()) -> str:
    """Return the sha256 over the sorted (content hash, correct answer, split, other answers) of every row."""
    other = [one.names(one.targets(table)) for one in further_tasks]
    rows = sorted(zip(table["id"], task.names(task.targets(table)), table["split"], *other, strict=True))
    return hashlib.sha256("\n".join("\t".join(row) for row in rows).encode()).hexdigest()
