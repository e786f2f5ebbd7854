"""ImageDataset: the validated images as one artifact, bytes and table in a few large files.

A folder with

- `dataset.json`: format version, classes in order, content digest, channels;
- `table.parquet`: one row per image (see `TABLE_COLUMNS`), plus any extra column of the user's manifest;
- `images-00000.arrow`, ...: Arrow IPC files of one column `image: struct<bytes: binary, path: string>`, as Hugging
  Face's `Image` feature stores it, in row order. They are memory-mapped: any image is read without a copy and without
  reading its neighbours.

A few large files are much faster for DVC and object stores than one file per image.
"""

import bisect
import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, SerializeAsAny, model_validator

from graft.core.artifact import read_spec
from graft.core.atomic import replacing, write_json
from graft.core.errors import DataError
from graft.core.parquet import read_table, write_table
from graft.data.records import SPLITS, Split
from graft.imaging.decode import MAX_PIXELS
from graft.tasks.kinds import with_task
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
IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SHARD_BYTES = 256 * 2**20
BATCH_BYTES, BATCH_IMAGES = 8 * 2**20, 1024


class DatasetSpec(BaseModel):
    """The content of `dataset.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    classes: tuple[str, ...]
    """Names of the task's outputs, in order."""
    task: SerializeAsAny[Task]
    digest: str
    shards: tuple[int, ...]
    """Number of images in each shard file."""
    channels: int = 3
    """Channels of every image as read: 3 is RGB and 1 grey, converted from any image; others are bands as stored."""
    name: str = ""
    """Of the data set, see `graft.data.source`; models are registered under it unless another name is given."""
    max_pixels: int = MAX_PIXELS
    """The limit that every image was checked against; who decodes them later has the same."""

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
        spec = read_spec(path / SPEC_FILE, DatasetSpec, content="image dataset", step="validate_data")
        return cls(path, spec, read_table(path / TABLE_FILE))

    @property
    def task(self) -> Task:
        """The task: what is learnt from the images."""
        return self.spec.task

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of labelled images per split and answer; splits without images are left out."""
        names = self.task.answer_names
        counted = {
            split: Counter(self.task.names(self.targets()[self.labelled(split)]))
            for split in SPLITS
            if len(self.indices(split))
        }
        return {split: {name: found[name] for name in names} for split, found in counted.items()}

    def image(self, row: int) -> bytes:
        """Return the image file's bytes of one row."""
        content: bytes = self.reader()[row]
        return content

    def reader(self) -> "ImageReader":
        """Open the shards for random access; use one reader per thread or process."""
        return ImageReader(self.path, self.spec.shards)


class ImageReader(Sequence[bytes]):
    """Random access to the images' bytes by row."""

    def __init__(self, path: Path, shards: Sequence[int], stem: str = "images") -> None:
        self._first_rows: list[int] = []
        self._batches: list[pa.RecordBatch] = []
        row = 0
        for number in range(len(shards)):
            # The memory map lives as long as a batch refers to it; bytes are read on demand.
            shard = pa.ipc.open_file(pa.memory_map(str(path / _shard_name(number, stem))))
            for index in range(shard.num_record_batches):
                batch = shard.get_batch(index)
                self._first_rows.append(row)
                self._batches.append(batch)
                row += batch.num_rows
        self._length = row

    def __len__(self) -> int:
        """Return the number of images."""
        return self._length

    def __getitem__(self, row: Any) -> Any:
        """Return the bytes of the image in `row`."""
        if not 0 <= row < self._length:
            raise IndexError(row)
        at = bisect.bisect_right(self._first_rows, int(row)) - 1
        return self._batches[at].column(0)[int(row) - self._first_rows[at]]["bytes"].as_py()


def write_dataset(
    path: Path,
    table: pd.DataFrame,
    images: Iterable[bytes],
    classes: Sequence[str],
    channels: int = 3,
    task: Task | None = None,
    max_pixels: int = MAX_PIXELS,
    name: str = "",
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

    Raises:
        DataError: if a column is missing.
        ValueError: if the number of images differs from the number of rows.
    """
    missing = [column for column in TABLE_COLUMNS if column not in table.columns]
    if missing:
        raise DataError(f"table without column {', '.join(missing)}")
    table = table.reset_index(drop=True)
    learnt = task or SingleLabel(labels=tuple(classes))
    with replacing(Path(path)) as folder:
        folder.mkdir(parents=True)
        shards = list(write_shards(folder, zip(table["path"], images, strict=True)))
        write_table(folder / TABLE_FILE, table)
        spec = DatasetSpec(
            classes=tuple(classes),
            task=learnt,
            digest=digest(table, learnt),
            shards=tuple(shards),
            channels=channels,
            name=name,
            max_pixels=max_pixels,
        )
        write_json(folder / SPEC_FILE, spec.model_dump(mode="json"))
    return ImageDataset.read(path)


def digest(table: pd.DataFrame, task: Task) -> str:
    """Return the sha256 over the sorted (content hash, correct answer, split) of every row."""
    rows = sorted(zip(table["id"], task.names(task.targets(table)), table["split"], strict=True))
    return hashlib.sha256("\n".join("\t".join(row) for row in rows).encode()).hexdigest()


def write_shards(folder: Path, rows: Iterable[tuple[str, bytes]], stem: str = "images") -> Iterator[int]:
    """Write paths and contents as files that `ImageReader` reads; yield the number of rows in each file."""
    number, writer = 0, None
    shard_rows = shard_bytes = 0
    for batch in _batches(rows):
        if writer is None:
            writer = pa.ipc.new_file(str(folder / _shard_name(number, stem)), batch.schema)
        writer.write_batch(batch)
        shard_rows += batch.num_rows
        shard_bytes += batch.nbytes
        if shard_bytes >= SHARD_BYTES:
            writer.close()
            yield shard_rows
            number, writer, shard_rows, shard_bytes = number + 1, None, 0, 0
    if writer is not None:
        writer.close()
        yield shard_rows


def _batches(rows: Iterable[tuple[str, bytes]]) -> Iterator[pa.RecordBatch]:
    batch: list[dict[str, Any]] = []
    size = 0
    for path, content in rows:
        batch.append({"bytes": content, "path": path})
        size += len(content)
        if size >= BATCH_BYTES or len(batch) >= BATCH_IMAGES:
            yield _record_batch(batch)
            batch, size = [], 0
    if batch:
        yield _record_batch(batch)


def _record_batch(images: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.record_batch([pa.array(images, type=IMAGE_TYPE)], names=["image"])


def _shard_name(number: int, stem: str) -> str:
    return f"{stem}-{number:05d}.arrow"
