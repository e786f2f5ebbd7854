"""The images of a dataset artifact in Arrow's stream format, as Hugging Face's `datasets` stores a set on disk.

Each split has a folder of shards with `state.json` and `dataset_info.json`, and `dataset_dict.json` names the splits:
`datasets.load_from_disk(folder)` opens it, mapped into memory, with an `Image` column, the labels and the user's own
columns. Here only the bytes of the images are read from it.
"""

import bisect
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from graft.core.atomic import write_json
from graft.core.boundary import readable
from graft.core.errors import DamagedError, DataError
from graft.data.records import SPLITS

IMAGE, LABEL = "image", "label"
IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SHARD_BYTES = 256 * 2**20
BATCH_BYTES, BATCH_IMAGES = 8 * 2**20, 1024
_TYPES: Mapping[str, tuple[pa.DataType, str]] = {
    "b": (pa.bool_(), "bool"),
    "i": (pa.int64(), "int64"),
    "u": (pa.int64(), "int64"),
    "f": (pa.float64(), "float64"),
}
_TEXT = (pa.string(), "string")


@dataclass(frozen=True)
class Columns:
    """What the shards hold beside the images: one value for each row, and how `datasets` describes the columns."""

    values: Mapping[str, Sequence[Any]]
    types: Mapping[str, pa.DataType]
    features: Mapping[str, Mapping[str, Any]]

    @property
    def schema(self) -> pa.Schema:
        """The schema of a shard; its metadata are those of `datasets`."""
        fields = [(IMAGE, IMAGE_TYPE), *self.types.items()]
        info = {"info": {"features": {IMAGE: {"_type": "Image"}, **self.features}}}
        return pa.schema(fields, metadata={"huggingface": json.dumps(info)})


def columns_of(
    table: pd.DataFrame, labels: Sequence[int] | None, classes: Sequence[str], more: Sequence[str]
) -> Columns:
    """Return the columns to store beside the images.

    Args:
        table: one row per image.
        labels: the index of the class of each image, below 0 for none; None: the labels are text.
        classes: names of the labels.
        more: other columns of the table; one whose name is taken is left out.
    """
    values: dict[str, Sequence[Any]] = {}
    types: dict[str, pa.DataType] = {}
    features: dict[str, Mapping[str, Any]] = {}
    if labels is not None:
        values[LABEL], types[LABEL] = [index if index >= 0 else None for index in labels], pa.int64()
        features[LABEL] = {"names": list(classes), "_type": "ClassLabel"}
    for name in dict.fromkeys((LABEL, *more)):
        if name not in values and name != IMAGE and name in table.columns:
            types[name], described = _TYPES.get(table[name].dtype.kind, _TEXT)
            whole = table[name] if described != "string" else table[name].astype(str)
            values[name], features[name] = whole.tolist(), {"dtype": described, "_type": "Value"}
    return Columns(values, types, features)


def write_splits(
    folder: Path, splits: Sequence[str], paths: Sequence[str], images: Iterable[bytes], columns: Columns, name: str
) -> dict[str, tuple[int, ...]]:
    """Write the images, which are streamed, to the shards of their splits.

    Args:
        folder: of the artifact.
        splits: of each row.
        paths: of each row.
        images: the files' bytes of each row.
        columns: see `columns_of`.
        name: what `datasets` caches the results of functions by: the digest of the content.

    Returns:
        The number of images in each shard, by split.

    Raises:
        ValueError: if the number of images differs from the number of rows.
    """
    unknown = sorted({*splits} - {*SPLITS})
    if unknown:
        raise DataError(f"split {unknown[0]!r} in the table; expected {', '.join(SPLITS)}")
    present = [split for split in SPLITS if split in set(splits)]
    writers: dict[str, _Writer] = {split: _Writer(folder / split, columns.schema) for split in present}
    try:
        for row, (split, path, content) in enumerate(zip(splits, paths, images, strict=True)):
            writers[split].add(
                {IMAGE: {"bytes": content, "path": path}, **{key: of[row] for key, of in columns.values.items()}}
            )
    finally:
        for writer in writers.values():
            writer.close()
    info = {"features": {IMAGE: {"_type": "Image"}, **columns.features}, "description": "", "citation": ""}
    for split, writer in writers.items():
        state: dict[str, Any] = {
            "_data_files": [{"filename": _shard_name(number)} for number in range(len(writer.rows))],
            "_fingerprint": f"{name[:32]}-{split}",
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": split,
        }
        write_json(folder / split / "state.json", state)
        write_json(folder / split / "dataset_info.json", info)
    write_json(folder / "dataset_dict.json", {"splits": present})
    return {split: tuple(writer.rows) for split, writer in writers.items()}


class _Writer:
    """Writes rows to the shards of one split."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.rows: list[int] = []
        """Of each shard."""
        self._folder, self._schema = folder, schema
        self._waiting: list[Mapping[str, Any]] = []
        self._waiting_bytes = self._shard_bytes = 0
        self._stream: Any = None
        folder.mkdir()

    def add(self, row: Mapping[str, Any]) -> None:
        self._waiting.append(row)
        self._waiting_bytes += len(row[IMAGE]["bytes"])
        if self._waiting_bytes >= BATCH_BYTES or len(self._waiting) >= BATCH_IMAGES:
            self._flush()

    def close(self) -> None:
        if self._waiting:
            self._flush()
        self._end_shard()

    def _flush(self) -> None:
        if self._stream is None:
            self._stream = pa.ipc.new_stream(str(self._folder / _shard_name(len(self.rows))), self._schema)
            self.rows.append(0)
        batch = pa.RecordBatch.from_pylist(self._waiting, schema=self._schema)
        self._stream.write_batch(batch)
        self.rows[-1] += batch.num_rows
        self._shard_bytes += batch.nbytes
        self._waiting, self._waiting_bytes = [], 0
        if self._shard_bytes >= SHARD_BYTES:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream, self._shard_bytes = None, 0


class SplitReader(Sequence[bytes]):
    """Random access to the images' bytes by row; each is compared with its id when it is read for the first time."""

    def __init__(
        self, path: Path, shards: Mapping[str, Sequence[int]], splits: Sequence[str], ids: Sequence[str]
    ) -> None:
        """Open the shards of an artifact.

        Args:
            path: of the artifact.
            shards: number of rows in each shard, by split.
            splits: of each row.
            ids: sha256 of each row's bytes.

        Raises:
            DamagedError: if a shard cannot be read, or has another number of rows.
        """
        self._path, self._ids = path, ids
        self._checked = np.zeros(len(ids), dtype=np.bool_)
        rows = pd.Series(list(splits), dtype=object)
        self._splits: list[str] = rows.tolist()
        self._places: npt.NDArray[np.int64] = np.asarray(rows.groupby(rows).cumcount(), dtype=np.int64)
        self._batches = {split: list(_mapped(path / split, known)) for split, known in shards.items()}
        self._first = {
            split: np.cumsum([0, *(batch.num_rows for batch in batches)]).tolist()
            for split, batches in self._batches.items()
        }

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._splits)

    def __getitem__(self, row: Any) -> Any:
        """Return the bytes of the image in `row`.

        Raises:
            DamagedError: if they are not those that were written.
        """
        if not 0 <= row < len(self):
            raise IndexError(row)
        split, place = self._splits[int(row)], int(self._places[int(row)])
        at = bisect.bisect_right(self._first[split], place) - 1
        content = self._batches[split][at].column(0)[place - self._first[split][at]]["bytes"].as_py()
        if not self._checked[row]:
            if content is None or hashlib.sha256(content).hexdigest() != self._ids[int(row)]:
                raise DamagedError(
                    f"{self._path}: the image in row {row} differs from what was written; run validate_data again"
                )
            self._checked[row] = True
        return content


def _mapped(folder: Path, shards: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a split; the memory map lives as long as one refers to it, bytes are read on demand."""
    for number, rows in enumerate(shards):
        file = folder / _shard_name(number)
        with readable(file, "run validate_data again"):
            yield from image_batches(pa.ipc.open_stream(pa.memory_map(str(file))), rows)


def image_batches(batches: Iterable[pa.RecordBatch], rows: int) -> list[pa.RecordBatch]:
    """Return the batches of a shard, whose offsets and lengths may be damaged: they would point anywhere in memory.

    Raises:
        ValueError: if they are, there are not as many rows, or the first column does not hold images.
    """
    found = list(batches)
    for batch in found:
        batch.validate(full=True)
        if batch.schema.names[:1] != [IMAGE] or batch.schema.field(IMAGE).type != IMAGE_TYPE:
            raise ValueError("the first column does not hold images")
    if sum(batch.num_rows for batch in found) != rows:
        raise ValueError(f"{sum(batch.num_rows for batch in found):,} rows, but {rows:,} were written")
    return found


def _shard_name(number: int) -> str:
    return f"data-{number:05d}.arrow"
