"""The cache: results stored by content hash, so that a second run computes only what is new.

It lives in `.graft-cache/` or in the folder that `GRAFT_CACHE` names (`off` for none), and may be deleted at any time.
Entries are written to a temporary sibling with a unique name and then moved into place, so any number of processes may
write at once.
"""

import fcntl
import hashlib
import json
import os
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from graft.core.atomic import remove, replacing
from graft.core.checksums import check_folder, read_checksums
from graft.core.errors import DamagedError, GraftError
from graft.core.mapped_arrays import open_array

DEFAULT_FOLDER = ".graft-cache"
MAX_CACHE_BYTES = 10 * 2**30
"""Bytes on disk for each kind of entry; the least recently used are removed first."""
_IDS_FILE, _VALUES_FILE = "ids.npy", "values.npy"
_ORPHAN_SECONDS = 24 * 3600


def cache_root() -> Path | None:
    """Return the cache folder, created if missing; None if the cache is switched off or cannot be written."""
    named = os.environ.get("GRAFT_CACHE", DEFAULT_FOLDER)
    if named in ("", "off"):
        return None
    root = Path(named).absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        warnings.warn(
            f"{root}: no cache, every run computes everything again ({error.strerror}); set GRAFT_CACHE", stacklevel=2
        )
        return None
    return root if os.access(root, os.W_OK) else None


def cache_key(request: Mapping[str, Any]) -> str:
    """Return the sha256 of a JSON-serialisable mapping; the order of its keys does not matter."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


@contextmanager
def lock_entry(entry: Path) -> Iterator[None]:
    """Let one process at a time compute `entry`: the others wait, and then find it there.

    On a file system without locks nobody waits, and each process computes it.
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    with entry.with_name(f".{entry.name}.lock").open("w") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def mark_used_and_evict(entry: Path, limit: int = MAX_CACHE_BYTES) -> None:
    """Mark `entry` as used; remove its least recently used siblings until all take less than `limit` bytes."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    if entry.exists():
        os.utime(entry)
    ages: dict[Path, float] = {}
    for path in entry.parent.iterdir():
        with suppress(FileNotFoundError):  # here and below: another process may evict too
            ages[path] = path.stat().st_mtime
    total = 0
    for path in sorted(ages, key=ages.__getitem__, reverse=True):
        with suppress(FileNotFoundError):
            if path.name.startswith("."):  # another process writes here, or one died here
                if time.time() - ages[path] > _ORPHAN_SECONDS:
                    remove(path)
                continue
            total += sum(file.stat().st_size for file in path.rglob("*"))
            if total > limit and path != entry:
                remove(path)  # a process that has it memory-mapped keeps it until done


def throw_away(entry: Path, why: Exception) -> None:
    """Remove a damaged entry, so that it is made again; a cache is never the cause of an error."""
    if entry.exists():
        warnings.warn(f"{entry}: a damaged entry of the cache is thrown away and made again ({why})", stacklevel=2)
        with suppress(OSError):
            remove(entry)


@contextmanager
def kept_if_possible(entry: Path) -> Iterator[None]:
    """Write an entry; a cache that is full or cannot be written is a warning, not an error."""
    try:
        yield
    except (GraftError, OSError) as error:
        warnings.warn(f"{entry}: not kept for another run ({error})", stacklevel=3)


def usable(entry: Path) -> bool:
    """Return whether an entry is there and is what was written; a damaged one is removed."""
    if not entry.is_dir():
        return False
    try:
        if read_checksums(entry) is None:
            raise DamagedError(f"{entry}: without checksums")
        check_folder(entry, every_file=True)
    except GraftError as error:
        throw_away(entry, error)
        return False
    return True


class VectorCache:
    """float32 vectors by the sha256 of the image they were computed from.

    A folder of segments, each an immutable pair of arrays: ids (m,) and values (m, width).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, ids: Sequence[str]) -> dict[str, tuple[Path, int]]:
        """Return the segment, and the row in it, of every cached id; a damaged segment is removed."""
        wanted = set(ids)
        found: dict[str, tuple[Path, int]] = {}
        for segment in sorted(self.folder.glob("[!.]*/")):
            try:
                if read_checksums(segment) is None:
                    raise DamagedError(f"{segment}: without checksums")
                cached = open_array(segment / _IDS_FILE).astype(str).tolist()
                if wanted.isdisjoint(cached):
                    continue
                if not len(cached) == len(self.read(segment)):
                    raise DamagedError(f"{segment}: {_IDS_FILE} and {_VALUES_FILE} are not of the same images")
            except GraftError as error:
                throw_away(segment, error)
                continue
            found |= {name: (segment, row) for row, name in enumerate(cached) if name in wanted}
        return found

    def read(self, segment: Path) -> npt.NDArray[np.float32]:
        """Return the values of a segment, (m, width), memory-mapped.

        Raises:
            DamagedError: if they differ from what was written.
        """
        values: npt.NDArray[np.float32] = open_array(segment / _VALUES_FILE)
        return values

    def add(self, ids: Sequence[str], values: npt.NDArray[np.float32]) -> None:
        """Store one vector per id; a cache that cannot be written is a warning, not an error."""
        with kept_if_possible(self.folder), replacing(self.folder / uuid.uuid4().hex) as segment:
            segment.mkdir()
            np.save(segment / _IDS_FILE, np.array(ids, dtype="S64"))
            np.save(segment / _VALUES_FILE, np.ascontiguousarray(values, dtype=np.float32))
