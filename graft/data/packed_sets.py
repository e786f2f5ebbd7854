"""Labelled images that come packed: a `datasets` set saved to disk, Parquet with an image column, WebDataset tars.

They are read row by row, where they are: nothing is unpacked before it is known to be an image's bytes, and no name in
a set is used as a path.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from graft.core.boundary import readable
from graft.core.errors import DataError
from graft.data.clutter import is_clutter
from graft.data.folder_names import splits_of
from graft.data.records import Split
from graft.data.web_dataset import LABELS, PackedImage, read_web_dataset
from graft.imaging.signatures import is_named_image

_IMAGES = ("image", "img", "picture", "photo", "bytes")
_BATCH_ROWS = 64
_SAVE_AGAIN = "save the set again"
_MOST_BYTES, _MOST_RATIO = 2**30, 50
"""A row group that is larger may not be so many times as large as its part of the file: images hardly compress."""


@dataclass(frozen=True)
class PackedSet:
    """A packed set, of one or several files."""

    parts: tuple[Callable[[], Iterator[PackedImage]], ...]

    def read(self) -> Iterator[PackedImage]:
        """Yield its images, one after the other."""
        for part in self.parts:
            yield from part()


def packed_set(source: Path) -> PackedSet | None:
    """Return the set that a file or folder holds; None if it is none.

    Raises:
        DataError: if its files belong to splits that are not known.
    """
    if source.is_file():
        return _of_files(source, [source])
    if not source.is_dir():
        return None
    saved = _saved(source)
    if saved is not None:
        return saved
    files = [file for file in sorted(source.rglob("*")) if not any(map(is_clutter, file.relative_to(source).parts))]
    if any(is_named_image(file.name) for file in files):
        return None
    return _of_files(source, files)


def _of_files(source: Path, files: Sequence[Path]) -> PackedSet | None:
    for suffix, rows in ((".parquet", _parquet), (".tar", read_web_dataset)):
        found = [file for file in files if file.suffix.lower() == suffix and file.is_file()]
        if found:
            splits = _splits_of_files(source if source.is_dir() else source.parent, found)
            parts = tuple(partial(rows, file, splits[file]) for file in found)
            return PackedSet(parts)
    return None


def _saved(folder: Path) -> PackedSet | None:
    """Return a set that `datasets` saved, of one or several splits."""
    if (folder / "dataset_dict.json").is_file():
        names = [str(name) for name in _list(_json(folder / "dataset_dict.json").get("splits"))]
        if leading := [name for name in names if name != PurePosixPath(name).name]:
            raise DataError(f"{folder}: split {leading[0]!r} leads out of the folder; save the set again")
        parts = {folder / name: split for name, split in _known(folder, names).items()}
    elif (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        parts = {folder: None}
    else:
        return None
    return PackedSet(
        tuple(
            partial(_arrow, part, part / str(one.get("filename")), split)
            for part, split in parts.items()
            for one in _list(_json(part / "state.json").get("_data_files"))
            if isinstance(one, Mapping)
        )
    )


def _json(file: Path) -> dict[str, Any]:
    with readable(file, _SAVE_AGAIN, DataError):
        found = json.loads(file.read_bytes())
    return found if isinstance(found, dict) else {}


def _list(found: object) -> list[Any]:
    return found if isinstance(found, list) else []


def _splits_of_files(root: Path, files: Sequence[Path]) -> dict[Path, Split | None]:
    """Return the split of each file by its name, `train-00000-of-00002.parquet`, or by its folder."""
    if len(files) == 1 and not splits_of([_stem(files[0])]):
        return {files[0]: None}
    names: tuple[Callable[[Path], str], ...] = (_stem, lambda file: file.parent.relative_to(root).name)
    for name in names:
        found = splits_of({name(file) for file in files})
        if all(name(file) in found for file in files):
            return {file: found[name(file)] for file in files}
    if not any(splits_of([_stem(file)]) for file in files):
        return dict.fromkeys(files)
    other = next(file for file in files if not splits_of([_stem(file)]))
    raise DataError(f"{other}: belongs to no split while others do; name it train-..., validation-... or test-...")


def _stem(file: Path) -> str:
    """Return a file's name without its number among the files of a split."""
    return file.name.split(".")[0].partition("-0")[0].rstrip("0123456789_-") or file.name


def _known(folder: Path, names: Sequence[str]) -> dict[str, Split | None]:
    found = splits_of(names)
    unknown = [name for name in names if name not in found]
    if len(names) == 1:
        return {name: found.get(name) for name in names}
    if unknown:
        raise DataError(
            f"{folder}: split {unknown[0]!r} is not train, validation or test; rename it, or save the set without it"
        )
    return {name: found[name] for name in names}


def _parquet(file: Path, split: Split | None) -> Iterator[PackedImage]:
    with readable(file, "write it again", DataError):
        opened = pq.ParquetFile(file)
        _check_size(file, opened.metadata)
        columns = _Columns.of(file, opened.schema_arrow)
        row = 0
        for batch in opened.iter_batches(batch_size=_BATCH_ROWS):
            yield from columns.images(batch, row, split)
            row += batch.num_rows


def _check_size(file: Path, metadata: pq.FileMetaData) -> None:
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        packed = sum(group.column(at).total_compressed_size for at in range(group.num_columns))
        if group.total_byte_size > max(_MOST_BYTES, _MOST_RATIO * packed):
            raise DataError(
                f"{file}: {packed:,} bytes unpack to {group.total_byte_size:,}; refused as a decompression bomb"
            )


def _arrow(folder: Path, file: Path, split: Split | None) -> Iterator[PackedImage]:
    if file.parent != folder:
        raise DataError(f"{folder}: its state.json leads out of the folder; save the set again")
    with readable(file, _SAVE_AGAIN, DataError):
        opened = pa.ipc.open_stream(pa.memory_map(str(file)))
        columns = _Columns.of(file, opened.schema)
        row = 0
        for batch in opened:
            yield from columns.images(batch, row, split)
            row += batch.num_rows


@dataclass(frozen=True)
class _Columns:
    """Which columns of a table hold the image and the label, and the names of the labels if they are numbers."""

    file: Path
    image: str
    label: str
    names: Mapping[str, Sequence[str]]
    """The classes of each column of class numbers."""
    others: tuple[str, ...]

    @classmethod
    def of(cls, file: Path, schema: pa.Schema) -> "_Columns":
        features = _features(schema)
        images = [name for name in schema.names if features.get(name, {}).get("_type") == "Image"]
        images = images or [name for name in schema.names if _holds_files(schema.field(name).type)]
        # a list of classes has its feature inside
        inner = {name: found.get("feature") or found for name, found in features.items()}
        names = {
            name: _list(found.get("names"))
            for name, found in inner.items()
            if isinstance(found, Mapping) and found.get("_type") == "ClassLabel"
        }
        labels = [name for known in LABELS for name in schema.names if name.lower() == known] or list(names)
        image = _chosen(file, "image", [name for name in images if name.lower() in _IMAGES][:1] or images, schema)
        label = _chosen(file, "label", [name for name in labels if name == "label"] or labels, schema)
        others = tuple(name for name in schema.names if name not in (image, label) and name not in images)
        return cls(file, image, label, names, others)

    def images(self, batch: pa.RecordBatch, first: int, split: Split | None) -> Iterator[PackedImage]:
        """Yield the images of a batch whose first row has this number."""
        batch.validate(full=True)  # what leads out of its buffers would end this process
        for row, values in enumerate(batch.select([self.image, self.label, *self.others]).to_pylist(), start=first):
            found = values[self.image]
            content, name = (found.get("bytes"), found.get("path")) if isinstance(found, Mapping) else (found, None)
            if not isinstance(content, bytes):
                raise DataError(
                    f"{self.file}: row {row} lacks the bytes of its image; `save_to_disk` of `datasets` adds them"
                )
            more = {other: self._text(other, values[other]) for other in self.others}
            yield PackedImage(str(name or ""), content, self._text(self.label, values[self.label]), split, more)

    def _text(self, column: str, value: Any) -> str:
        names = self.names.get(column)
        if isinstance(value, list) and (names is not None or column == self.label):
            return json.dumps([self._text(column, one) for one in value], ensure_ascii=False)
        if names is not None and isinstance(value, int):
            return str(names[value]) if 0 <= value < len(names) else "" if value < 0 else str(value)
        if value is None:
            return ""
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _features(schema: pa.Schema) -> Mapping[str, Mapping[str, Any]]:
    """Return what `datasets` says about the columns, in the metadata of a schema."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, RecursionError, TypeError, ValueError):
        return {}
    return {name: of for name, of in found.items() if isinstance(of, dict)} if isinstance(found, dict) else {}


def _holds_files(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return {"bytes", "path"} <= {kind.field(at).name for at in range(kind.num_fields)}
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _chosen(file: Path, what: str, names: Sequence[str], schema: pa.Schema) -> str:
    if len(names) == 1:
        return names[0]
    if names:
        raise DataError(f"{file}: {' and '.join(map(repr, names))} could each be the {what}; name the right one {what}")
    raise DataError(f"{file}: no column with the {what} (found: {', '.join(schema.names)}); name it {what}")
