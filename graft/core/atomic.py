"""Atomic writes: a reader sees the old content or the new, never half of it."""

import ctypes
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from graft.core.errors import GraftError

FLUSH_THREADS = 8  # the file system writes its journal once for all of them: 1,500 files took 0.25 s instead of 6.5
MANY_FILES = 1024  # from here on, flush the file system as a whole if possible: 16,000 files took 0.2 s instead of 2.4


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` to write a file or a folder to; on success it replaces `path`.

    On an exception the temporary is removed and `path` stays as it was.

    Raises:
        GraftError: if the parent folder cannot be written.
    """
    with temporary_sibling(path) as temporary:
        yield temporary
        if temporary.exists():
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
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
    except PermissionError as error:
        raise _unwritable(path, error) from error
    finally:
        remove(temporary)


def move_into_place(temporary: Path, path: Path) -> None:
    """Flush `temporary` (a file or a folder) to disk and move it to `path`, replacing what is there."""
    flush(temporary)
    rename_into_place(temporary, path)


def rename_into_place(temporary: Path, path: Path) -> None:
    """Move a flushed file or folder to `path`, replacing what is there."""
    if path.is_dir() and not path.is_symlink():
        # A folder cannot be renamed over a non-empty folder: move the old one aside first.
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
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
    except ValueError as error:
        raise GraftError(f"{path}: not valid JSON ({error})") from error


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
