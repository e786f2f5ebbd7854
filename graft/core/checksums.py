"""The checksums of a folder: written when it is put into place, compared when it is read.

They are in the file `SHA256SUMS`, in the format of coreutils: `sha256sum --check SHA256SUMS` compares them, too. They
find damage and mistakes. Who can write the folder can write its checksums too; only the registry, which keeps the
digest of that file, can tell (see `runs.registered_files`). A folder without the file is of an earlier version, or made
by hand, and is read as it is.
"""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from graft.core.digest import file_digest
from graft.core.errors import DamagedError

SUMS_FILE = "SHA256SUMS"
MAPPED = (".arrow", ".npy")
"""Suffixes of files that are memory-mapped and may be larger than memory: their readers check what they use."""
READ = (".json", ".safetensors", ".parquet", ".pt2", ".py", *MAPPED)
"""Suffixes of files that may change what a model does."""
_THREADS = 4
_State = tuple[int, int, int, int]
_known: dict[_State, str] = {}
"""Digests that this process has computed, by device, inode, size and time: no file is read twice for its checksum."""


def write_checksums(folder: Path) -> None:
    """Write `SHA256SUMS` into a folder, of all its other files."""
    names = sorted(_names(folder))
    if not names:
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = list(pool.map(lambda name: _digest(folder / name), names))
    lines = [_line(digest, name) for name, digest in zip(names, digests, strict=True)]
    (folder / SUMS_FILE).write_bytes(os.fsencode("".join(lines)))


def check_folder(folder: Path, *, every_file: bool = False) -> None:
    """Compare the files of a folder with its checksums, if it has them.

    Args:
        folder: of an artifact.
        every_file: also those that are memory-mapped, and refuse files that were added.

    Raises:
        DamagedError: naming the first file that is missing, differs or was added.
    """
    sums = read_checksums(folder)
    if sums is None:
        return
    names = [name for name in sums if every_file or not name.endswith(MAPPED)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for fault in pool.map(lambda name: _fault(folder / name, sums[name]), names):
            if fault:
                raise DamagedError(fault)
    if every_file and (added := sorted(name for name in _names(folder) if name.endswith(READ) and name not in sums)):
        raise DamagedError(f"{folder / added[0]}: was added after the folder was written; remove it, or {_REMEDY}")


def check_file(file: Path) -> None:
    """Compare one file with the checksums of the nearest folder above that has any.

    Raises:
        DamagedError: if it differs.
    """
    for folder in list(file.absolute().parents)[:3]:
        if (folder / SUMS_FILE).is_file():
            name = file.absolute().relative_to(folder).as_posix()
            expected = (read_checksums(folder) or {}).get(name)
            if expected and (fault := _fault(file, expected)):
                raise DamagedError(fault)
            return


def read_checksums(folder: Path) -> dict[str, str] | None:
    """Return the sha256 of each file by its relative posix path; None if the folder has no checksums.

    Raises:
        DamagedError: if the file of checksums is itself damaged.
    """
    file = folder / SUMS_FILE
    try:
        lines = os.fsdecode(file.read_bytes()).removesuffix("\n").split("\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DamagedError(f"{file}: cannot be read ({error.strerror})") from error
    found = {}
    for number, line in enumerate(lines, start=1):
        digest, separator, name = line.removeprefix("\\").partition("  ")
        if len(digest) != hashlib.sha256().digest_size * 2 or not separator or not _inside(name):
            raise DamagedError(f"{file}: line {number} is not a checksum and a file's name; {_REMEDY}")
        found[_unescaped(name) if line.startswith("\\") else name] = digest
    return found


_REMEDY = "restore the folder from a copy, or run the step that wrote it again"


def _fault(file: Path, expected: str) -> str | None:
    try:
        if _digest(file) == expected:
            return None
    except FileNotFoundError:
        return f"{file}: is missing; {_REMEDY}"
    except OSError as error:
        return f"{file}: cannot be read ({error.strerror}); {_REMEDY}"
    return f"{file}: differs from what was written (its sha256 does not match); {_REMEDY}"


def _digest(file: Path) -> str:
    found = file.stat()
    state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    if state not in _known:
        _known[state] = file_digest(file, "sha256")
    return _known[state]


def _names(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if path.is_file() and not (name == SUMS_FILE and path.parent == folder):
                yield path.relative_to(folder).as_posix()


def _inside(name: str) -> bool:
    return bool(name) and not name.startswith("/") and ".." not in name.split("/")


def _line(digest: str, name: str) -> str:
    if "\\" in name or "\n" in name or "\r" in name:
        escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        return f"\\{digest}  {escaped}\n"
    return f"{digest}  {name}\n"


def _unescaped(name: str) -> str:
    return name.replace("\\\\", "\0").replace("\\n", "\n").replace("\\r", "\r").replace("\0", "\\")
