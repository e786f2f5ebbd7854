"""Arrays in files, mapped into memory: their space is reserved first, and their checksums are compared first.

A write to a sparse file that the disk has no room for ends the process with SIGBUS and without a word. Reserved, it is
an OSError before any work is lost.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from graft.core.boundary import readable
from graft.core.checksums import check_file

Array = npt.NDArray[Any]


def create_array(file: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> Array:
    """Return a new `.npy` file as a writable array of zeros.

    Raises:
        OSError: ENOSPC or EDQUOT, if there is no room for it.
    """
    made: Array = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
    with file.open("r+b") as opened:
        reserve(opened.fileno(), os.fstat(opened.fileno()).st_size)
    return made


def open_array(file: Path) -> Array:
    """Return a `.npy` file as a read-only array, after comparing it with its checksum.

    Raises:
        DamagedError: if it cannot be read or differs from what was written.
    """
    check_file(file)
    with readable(file):
        found: Array = np.load(file, mmap_mode="r")
        return found


@contextmanager
def temporary_array(shape: tuple[int, ...]) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield an array of zeros, uint8, in an anonymous temporary file that is removed afterwards.

    Raises:
        OSError: ENOSPC or EDQUOT, if there is no room for it.
    """
    size = int(np.prod(shape))
    if not size:
        yield np.zeros(shape, np.uint8)
        return
    with tempfile.TemporaryFile(prefix="graft-") as file:
        reserve(file.fileno(), size)
        yield np.memmap(file, np.uint8, "r+", shape=(*shape,))


def reserve(descriptor: int, size: int) -> None:
    """Give an open file this many bytes on disk.

    Raises:
        OSError: with the folder of temporary files or of the file as its name, if there is no room.
    """
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        link = Path(f"/proc/self/fd/{descriptor}")
        name = str(link.readlink()) if link.is_symlink() else None
        raise OSError(error.errno, f"{error.strerror}, {size:,} bytes asked for", name) from error
