"""Labelled images that come packed: a `datasets` set saved to disk, Parquet with an image column, WebDataset tars.

They are read row by row, where they are: nothing is unpacked before it is known to be an image's bytes, and no name in
a set is used as a path.
"""

import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from graft.core.errors import DataError
from graft.data.clutter import is_clutter
from graft.data.manifest import COLUMN_NAMES
from graft.data.records import Split
from graft.data.split_names import splits_of
from graft.imaging.signatures import HEAD_BYTES, is_image, is_named_image

MOST_BYTES = 2**30
"""A member of a tar may not be larger."""
_IMAGES = ("image", "img", "picture", "photo", "bytes")
_LABELS = (*COLUMN_NAMES["label"], "labels", "cls", "fine_label")
_BATCH_ROWS = 64
_TAR_BLOCK = 512


@dataclass(frozen=True)
class PackedImage:
    """One image of a packed set."""

    name: str
    """Of its file, as the set has it; empty if it has none."""
    content: bytes
    label: str
    split: Split | None
    more: Mapping[str, str]
    """The set's other columns, as text."""


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
    for suffix, rows in ((".parquet", _parquet), (".tar", _webdataset)):
        found = [file for file in files if file.suffix.lower() == suffix and file.is_file()]
        if found:
            splits = _splits_of_files(source if source.is_dir() else source.parent, found)
            parts = tuple(partial(rows, file, splits[file]) for file in found)
            return PackedSet(parts)
    return None


def _saved(folder: Path) -> PackedSet | None:
    """Return a set that `datasets` saved, of one or several splits."""
    if (folder / "dataset_dict.json").is_file():
        names = [str(name) for name in _json(folder / "dataset_dict.json").get("splits", ())]
        parts = {folder / name: split for name, split in _known(folder, names).items()}
    elif (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        parts = {folder: None}
    else:
        return None
    return PackedSet(
        tuple(
            partial(_arrow, part, part / str(one.get("filename")), split)
            for part, split in parts.items()
            for one in _json(part / "state.json").get("_data_files", ())
        )
    )


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read ({error}); save the set again") from error
    return found if isinstance(found, dict) else {}


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
    try:
        opened = pq.ParquetFile(file)
        columns = _Columns.of(file, opened.schema_arrow)
        row = 0
        for batch in opened.iter_batches(batch_size=_BATCH_ROWS):
            yield from columns.images(batch, row, split)
            row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: cannot be read ({_line(error)}); write it again") from error


def _arrow(folder: Path, file: Path, split: Split | None) -> Iterator[PackedImage]:
    if file.parent != folder:
        raise DataError(f"{folder}: its state.json leads out of the folder; save the set again")
    try:
        opened = pa.ipc.open_stream(pa.memory_map(str(file)))
        columns = _Columns.of(file, opened.schema)
        row = 0
        for batch in opened:
            yield from columns.images(batch, row, split)
            row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: cannot be read ({_line(error)}); save the set again") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


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
        names = {name: found["names"] for name, found in inner.items() if found.get("_type") == "ClassLabel"}
        labels = [name for known in _LABELS for name in schema.names if name.lower() == known] or list(names)
        image = _chosen(file, "image", [name for name in images if name.lower() in _IMAGES][:1] or images, schema)
        label = _chosen(file, "label", [name for name in labels if name == "label"] or labels, schema)
        others = tuple(name for name in schema.names if name not in (image, label) and name not in images)
        return cls(file, image, label, names, others)

    def images(self, batch: pa.RecordBatch, first: int, split: Split | None) -> Iterator[PackedImage]:
        """Yield the images of a batch whose first row has this number."""
        for row, values in enumerate(batch.select([self.image, self.label, *self.others]).to_pylist(), start=first):
            found = values[self.image]
            content, name = (found.get("bytes"), found.get("path")) if isinstance(found, Mapping) else (found, None)
            if content is None:
                raise DataError(
                    f"{self.file}: row {row} lacks the bytes of its image; `save_to_disk` of `datasets` adds them"
                )
            more = {other: self._text(other, values[other]) for other in self.others}
            yield PackedImage(str(name or ""), content, self._text(self.label, values[self.label]), split, more)

    def _text(self, column: str, value: Any) -> str:
        names = self.names.get(column)
        if isinstance(value, list) and (names is not None or column == self.label):
            return json.dumps([self._text(column, one) for one in value], ensure_ascii=False)
        if value is None or (names is not None and value < 0):
            return ""
        if names is not None and value < len(names):
            return str(names[value])
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _features(schema: pa.Schema) -> Mapping[str, Mapping[str, Any]]:
    """Return what `datasets` says about the columns, in the metadata of a schema."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
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


def _webdataset(file: Path, split: Split | None) -> Iterator[PackedImage]:
    with file.open("rb") as raw:
        raw.seek(max(0, file.stat().st_size - 2 * _TAR_BLOCK))
        if any(raw.read()):
            raise DataError(f"{file}: the archive has no end, so it is cut short; copy it again")
    names = _class_names(file.parent)
    try:
        with tarfile.open(file, mode="r|") as tar:
            key, parts = "", dict[str, bytes]()
            for member in tar:
                if not member.isreg() or is_clutter(PurePosixPath(member.name).name):
                    continue
                if ".." in PurePosixPath(member.name).parts:
                    raise DataError(f"{file}: {member.name!r} leads out of the archive; pack it again")
                if member.size > MOST_BYTES:
                    raise DataError(f"{file}: {member.name!r} has {member.size:,} bytes, more than {MOST_BYTES:,}")
                folder, _, base = member.name.rpartition("/")
                stem, _, extension = base.partition(".")
                if f"{folder}/{stem}" != key:
                    yield from _sample(file, key, parts, split, names)
                    key, parts = f"{folder}/{stem}", {}
                opened = tar.extractfile(member)
                parts[extension.lower()] = opened.read() if opened else b""
            yield from _sample(file, key, parts, split, names)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{file}: damaged archive ({_line(error)})") from error


def _sample(
    file: Path, key: str, parts: Mapping[str, bytes], split: Split | None, names: Sequence[str]
) -> Iterator[PackedImage]:
    """Yield the image of a sample: its files of one name, as `0001.jpg`, `0001.cls` and `0001.json`."""
    images = [one for one, content in parts.items() if is_image(f"x.{one}", content[:HEAD_BYTES])]
    if not images:
        return
    described = {}
    if "json" in parts:
        try:
            described = json.loads(parts["json"])
        except ValueError as error:
            raise DataError(f"{file}: {key.lstrip('/')}.json is not JSON ({error})") from error
        described = described if isinstance(described, dict) else {}
    found = next((described[known] for known in _LABELS if known in described), None)
    label = str(found) if found is not None else parts.get("cls", b"").decode("utf-8", "replace").strip()
    if not label:
        label = key.rpartition("/")[0].rpartition("/")[2]
    if names and label.isdecimal() and int(label) < len(names):
        label = names[int(label)]
    if not label:
        raise DataError(
            f"{file}: {key.lstrip('/')} has no label; expected {key.lstrip('/')}.cls, a label in its .json, or a folder"
        )
    more = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in described.items()
        if name not in _LABELS
    }
    for image in images:
        yield PackedImage(f"{key.lstrip('/')}.{image}", parts[image], label, split, more)


def _class_names(folder: Path) -> list[str]:
    for name in ("classnames.txt", "classes.txt"):
        if (folder / name).is_file():
            return (folder / name).read_text("utf-8").splitlines()
    return []
