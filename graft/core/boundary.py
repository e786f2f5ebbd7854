"""Boundaries: what parsers raise on damaged files, and what a machine without room raises, as one clear line."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graft.core.credentials import mask_credentials
from graft.core.errors import DamagedError, GraftError

DATABASE_FAULTS = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite raises on a damaged file: its errors, and, where it quotes damaged text, that this is no UTF-8."""
_LONGEST = 200
_MACHINE = {
    errno.ENOSPC: "the disk is full ({text}); free some space",
    errno.EDQUOT: "the disk quota is used up ({text}); free some space or ask for more",
    errno.EROFS: "the file system is read-only ({text}); name a folder that can be written",
    errno.EMFILE: "too many files are open in this process ({text}); raise the limit with ulimit -n",
    errno.ENFILE: "too many files are open on this machine ({text}); raise fs.file-max",
    errno.ENOMEM: "the machine has no memory left ({text}); end other programs, or lower batch_size and workers",
    errno.EIO: "the disk fails ({text}); look at the system's log",
}
_KEPT = "outputs are as they were before this step, and a rerun goes on from the last finished step"


@contextmanager
def readable(
    file: Path,
    remedy: str = "restore it from a copy, or run the step that wrote it again",
    error: type[GraftError] = DamagedError,
) -> Iterator[None]:
    """Turn whatever a parser raises on a damaged or malicious file into one line.

    Args:
        file: that is read.
        remedy: what the user can do.
        error: the type to raise.

    Raises:
        GraftError: of this type.
    """
    try:
        yield
    except (GraftError, MemoryError):
        raise
    except Exception as fault:  # a parser may raise nearly anything on such bytes
        if isinstance(fault, OSError) and fault.errno in _MACHINE:
            raise
        cause = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault) or type(fault).__name__
        raise error(f"{file}: not readable ({_one_line(cause)}); {remedy}") from fault


def machine_fault(error: BaseException | None) -> str | None:
    """Return one line about an error that the machine is the cause of: no space, no memory, no descriptors.

    The causes of the error are looked at too. None: it is something else.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _MACHINE:
            file = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
            text = error.strerror or os.strerror(error.errno)
            return f"{file}{_MACHINE[error.errno].format(text=text)}; {_KEPT}"
        if isinstance(error, MemoryError):
            text = _one_line(str(error)) or "allocation failed"
            return f"{_MACHINE[errno.ENOMEM].format(text=text)}; {_KEPT}"
        error = error.__cause__ or error.__context__
    return None


def _one_line(text: str) -> str:
    return mask_credentials(" ".join(text.split()))[:_LONGEST]
