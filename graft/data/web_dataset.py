"""WebDataset tars: each sample is the files of one name, as `0001.jpg`, `0001.cls` and `0001.json`."""

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from graft.core.boundary import machine_fault
from graft.core.errors import DataError, GraftError
from graft.data.clutter import is_clutter
from graft.data.manifest import COLUMN_NAMES
from graft.data.records import Split
from graft.imaging.signatures import HEAD_BYTES, is_image

MOST_BYTES = 2**30
"""The files of a sample may not be larger together."""
LABELS = (*COLUMN_NAMES["label"], "labels", "cls", "fine_label")
"""Names of columns and of values in a sample's JSON that hold the label."""
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


def read_web_dataset(file: Path, split: Split | None) -> Iterator[PackedImage]:
    """Yield the images of a tar.

    Raises:
        DataError: if it is damaged, or a sample is too large or has no label.
    """
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
                if member.issparse():
                    raise DataError(f"{file}: {member.name!r} is a sparse file; pack it without holes")
                folder, _, base = member.name.rpartition("/")
                stem, _, extension = base.partition(".")
                if f"{folder}/{stem}" != key:
                    yield from _sample(file, key, parts, split, names)
                    key, parts = f"{folder}/{stem}", {}
                size = member.size + sum(map(len, parts.values()))
                if size > MOST_BYTES:
                    raise DataError(f"{file}: {member.name!r} makes a sample of {size:,} bytes, over {MOST_BYTES:,}")
                opened = tar.extractfile(member)
                parts[extension.lower()] = opened.read() if opened else b""
            yield from _sample(file, key, parts, split, names)
    except (GraftError, MemoryError):
        raise
    except Exception as error:  # tarfile raises nearly anything on such bytes
        if machine_fault(error):
            raise
        raise DataError(f"{file}: damaged archive ({' '.join(str(error).split())[:200]})") from error


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
        except (RecursionError, ValueError) as error:
            raise DataError(f"{file}: {key.lstrip('/')}.json is not JSON ({error})") from error
        described = described if isinstance(described, dict) else {}
    found = next((described[known] for known in LABELS if known in described), None)
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
        if name not in LABELS
    }
    for image in images:
        yield PackedImage(f"{key.lstrip('/')}.{image}", parts[image], label, split, more)


def _class_names(folder: Path) -> list[str]:
    for name in ("classnames.txt", "classes.txt"):
        if (folder / name).is_file():
            return (folder / name).read_text("utf-8", "replace").splitlines()
    return []
