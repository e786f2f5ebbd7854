"""Atomic writes: a reader sees the old content or the new, never half of it.

What is written has a temporary name beside its place, with the mark of the process that owns it. What a killed process
has left behind is removed by the next one that writes into the same folder.
"""

import ctypes
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from graft.core.checksums import write_checksums
from graft.core.errors import GraftError
from graft.core.owners import is_abandoned, owner_mark

FLUSH_THREADS = 8  # the file system writes its journal once for all of them: 1,500 files took 0.25 s instead of 6.5
MANY_FILES = 1024  # from here on, flush the file system as a whole if possible: 16,000 files took 0.2 s instead of 2.4
TEMPORARY, ASIDE = ".tmp", ".old"
_LEFT = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}-(?P<owner>[0-9a-f]{8}-[0-9]+-[0-9a-f]+)(?P<kind>\.tmp|\.old)")
_swept: set[Path] = set()
"""Folders that this process has looked through."""


@contextmanager
def replacing(path: Path, *, checksums: bool = True) -> Iterator[Path]:
    """Yield a temporary sibling of `path` to write a file or a folder to; on success it replaces `path`.

    On an exception the temporary is removed and `path` stays as it was.

    Args:
        path: of the file or folder.
        checksums: whether a folder gets a file of checksums (see `graft.core.checksums`). Not folders of the user's own
            files, nor copies, which bring theirs.

    Raises:
        GraftError: if the parent folder cannot be written.
    """
    with temporary_sibling(path) as temporary:
        yield temporary
        if temporary.exists():
            if checksums and temporary.is_dir():
                write_checksums(temporary)
            move_into_place(temporary, Path(path))


@contextmanager
def temporary_sibling(path: Path) -> Iterator[Path]:
    """Yield an unused path beside `path`; what is still there afterwards is removed.

    Raises:
        GraftError: if the parent folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    if path.parent not in _swept:
        sweep(path.parent)
    temporary = marked_sibling(path, TEMPORARY)
    try:
        yield temporary
    except PermissionError as error:
        raise _unwritable(path, error) from error
    finally:
        remove(temporary)


def marked_sibling(path: Path, suffix: str) -> Path:
    """Return an unused hidden path beside `path`, with the mark of this process."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}-{owner_mark()}{suffix}")


def commit_pointer(path: Path) -> Path:
    """Return the file beside an output that names the journal of its commit, if one is under way."""
    return path.with_name(f".{path.name}.commit")


def sweep(folder: Path) -> None:
    """Remove what killed processes have left in a folder; what had been moved aside for nothing comes back.

    What a commit still needs stays, see `graft.core.commit`.
    """
    _swept.add(folder)
    with suppress(OSError):  # another process may sweep at the same time; what is left is swept the next time
        for left in list(folder.glob(".*.????????-*")):
            found = _LEFT.fullmatch(left.name)
            if found is None or not is_abandoned(found["owner"]):
                continue
            if commit_pointer(folder / found["name"]).exists():
                continue
            if found["kind"] == ASIDE and not (folder / found["name"]).exists():
                left.rename(folder / found["name"])
            else:
                remove(left)


def move_into_place(temporary: Path, path: Path) -> None:
    """Flush `temporary` (a file or a folder) to disk and move it to `path`, replacing what is there."""
    flush(temporary)
    rename_into_place(temporary, path)


def rename_into_place(temporary: Path, path: Path) -> None:
    """Move a flushed file or folder to `path`, replacing what is there."""
    if path.is_dir() and not path.is_symlink():
        # A folder cannot be renamed over a non-empty folder: move the old one aside first.
        aside = marked_sibling(path, ASIDE)
        path.rename(aside)
        temporary.rename(path)
        remove(aside)
    else:
        temporary.replace(path)
    _fsync(path.parent)


def remove(path: Path) -> None:
    """Remove a file or a folder tree, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, with sorted keys so that equal values give equal bytes. NaN is an error."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        GraftError: if the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise GraftError(f"{path}: no such file") from error
    except (RecursionError, ValueError) as error:
        raise GraftError(f"{path}: not valid JSON ({error})") from error


def read_json_object(path: Path, *needed: str) -> dict[str, Any]:
    """Read a JSON file that holds an object with these fields.

    Raises:
        GraftError: if the file is missing, is not JSON, holds something else, or lacks a field.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise GraftError(f"{path}: expected an object, found {type(found).__name__}")
    if missing := [name for name in needed if name not in found]:
        raise GraftError(f"{path}: no field {' and '.join(map(repr, missing))}")
    return found


def flush(path: Path) -> None:
    """Flush a file, or all files in a folder, to disk."""
    files = _files(path)
    chunk = list(islice(files, MANY_FILES))
    if len(chunk) == MANY_FILES and _sync_file_system(path):
        return
    with ThreadPoolExecutor(FLUSH_THREADS) as pool:
        # Submitting a million files at once would take gigabytes of memory.
        while chunk:
            for _ in pool.map(_fsync, chunk):
                pass
            chunk = list(islice(files, MANY_FILES))


def _files(path: Path) -> Iterator[str | Path]:
    """Yield the file `path`, or every file in the folder."""
    if path.is_file():
        yield path
    for place, _, names in os.walk(path):
        for name in names:
            file = os.path.join(place, name)  # noqa: PTH118 (for a million files, short-lived strings are cheaper than paths)
            if os.path.isfile(file):  # noqa: PTH113
                yield file


def _sync_file_system(folder: Path) -> bool:
    """Flush the folder's whole file system with Linux's syncfs; return whether that worked.

    If it fails, flushing the files one by one reports why.
    """
    syncfs = getattr(ctypes.CDLL(None), "syncfs", None)
    if syncfs is None:
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        return bool(syncfs(descriptor) == 0)
    finally:
        os.close(descriptor)


def _fsync(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> GraftError:
    return GraftError(f"{path}: cannot write here ({error.strerror}); choose a folder you may write to")
