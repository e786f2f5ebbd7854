"""Paths and contents of files in row order, in Arrow files that are mapped into memory: any is read without a copy."""

import bisect
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from graft.core.boundary import readable
from graft.core.checksums import check_file
from graft.data.arrow_shards import BATCH_BYTES, BATCH_IMAGES, IMAGE_TYPE, SHARD_BYTES, image_batches


class ImageReader(Sequence[bytes]):
    """Random access to the images' bytes by row, after the shards are compared with the artifact's checksums."""

    def __init__(self, path: Path, shards: Sequence[int], stem: str = "images") -> None:
        """Open the shards of an artifact, of so many rows each.

        Raises:
            DamagedError: if one differs from what was written, or cannot be read.
        """
        self._first_rows: list[int] = []
        self._batches: list[pa.RecordBatch] = []
        row = 0
        for number, rows in enumerate(shards):
            file = path / _shard_name(number, stem)
            check_file(file)
            with readable(file, "run the step that wrote it again"):
                # The memory map lives as long as a batch refers to it; bytes are read on demand.
                shard = pa.ipc.open_file(pa.memory_map(str(file)))
                batches = image_batches((shard.get_batch(index) for index in range(shard.num_record_batches)), rows)
            for batch in batches:
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
