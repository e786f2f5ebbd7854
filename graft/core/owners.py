"""Which process a record or a temporary file belongs to: its machine, number and start. Is it still there?"""

import hashlib
import os
import re
import socket
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import psutil

_SAME_SECONDS = 2.0
"""The start of a process is read from a clock that may be set."""
_MARK = re.compile(r"([0-9a-f]{8})-([0-9]+)-([0-9]+)")


def this_process() -> str:
    """Return what identifies this process among all that ever ran here: host, number and start time."""
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.2f}"


def is_alive(identity: str) -> bool:
    """Return whether a process of this machine that `this_process` described still runs."""
    _, number, started = identity.rsplit(" ", 2)
    return _runs(int(number), float(started))


def owner_mark() -> str:
    """Return a short text for the name of a file, by which `is_abandoned` knows its owner: this process."""
    return _mark_of(os.getpid())


def is_abandoned(mark: str) -> bool:
    """Return whether the process with this mark was one of this machine and has ended; False if nobody can tell."""
    found = _MARK.fullmatch(mark)
    return found is not None and found[1] == _place() and not _runs(int(found[2]), float(found[3]))


@lru_cache(maxsize=1)
def _mark_of(number: int) -> str:
    return f"{_place()}-{number}-{psutil.Process(number).create_time():.0f}"


@lru_cache(maxsize=1)
def _place() -> str:
    """Return a digest of where process numbers are unique: a machine, or a container of it."""
    namespace = ""
    with suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(f"{socket.gethostname()} {namespace}".encode()).hexdigest()[:8]


def _runs(number: int, started: float) -> bool:
    try:
        return abs(psutil.Process(number).create_time() - started) < _SAME_SECONDS
    except psutil.Error:
        return False
