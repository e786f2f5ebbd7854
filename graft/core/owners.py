"""Which process a record or a temporary file belongs to: its machine, number and start. Is it still there?"""

import hashlib
import os
import re
import socket
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import psutil

_MARK = re.compile(r"([0-9a-f]{8})-([0-9]+)-([0-9a-f]+)")
_STAT, _BOOT = Path("/proc/self/stat"), Path("/proc/sys/kernel/random/boot_id")
_STATE, _FLAGS, _TICKS = 0, 6, 19
_ENDED = "ZX"
_EXITING = 0x4
"""Linux's flag of a process that ends: it does nothing more, but gives its memory back, which may take a second."""


def this_process() -> str:
    """Return what identifies this process among all that ever ran here: host, number and start."""
    return f"{socket.gethostname()} {os.getpid()} {_start(os.getpid())}"


def is_alive(identity: str) -> bool:
    """Return whether a process of this machine that `this_process` described still runs."""
    _, number, started = identity.rsplit(" ", 2)
    return _start(int(number)) == started


def owner_mark() -> str:
    """Return a short text for the name of a file, by which `is_abandoned` knows its owner: this process."""
    return _mark_of(os.getpid())


def is_abandoned(mark: str) -> bool:
    """Return whether the process with this mark was one of this machine and has ended; False if nobody can tell."""
    found = _MARK.fullmatch(mark)
    return found is not None and found[1] == _place() and _start(int(found[2])) != found[3]


@lru_cache(maxsize=1)
def _mark_of(number: int) -> str:
    return f"{_place()}-{number}-{_start(number)}"


@lru_cache(maxsize=1)
def _place() -> str:
    """Return a digest of where process numbers are unique: a machine, or a container of it."""
    namespace = ""
    with suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(f"{socket.gethostname()} {namespace}".encode()).hexdigest()[:8]


def process_seconds() -> float:
    """Return how long this process has run; setting the machine's clock does not change it, where that can be told."""
    if not _STAT.exists():
        return time.time() - psutil.Process().create_time()
    ticks = int(_fields(os.getpid())[_TICKS])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def _start(number: int) -> str | None:
    """Return when a process started, in hexadecimal digits; None if there is none of this number, or it has ended.

    Linux counts from the start of the machine, which has an id. Elsewhere it is a time of a clock that may be set.
    """
    if not _STAT.exists():
        return _start_by_clock(number)
    try:
        fields = _fields(number)
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[_STATE] in _ENDED or int(fields[_FLAGS]) & _EXITING:
        return None
    return f"{_BOOT.read_text(encoding='ascii').partition('-')[0]}{int(fields[_TICKS]):x}"


def _fields(number: int) -> list[str]:
    """Return what `proc_pid_stat(5)` describes, from the third field on: the second may hold spaces."""
    return Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def _start_by_clock(number: int) -> str | None:
    try:
        process = psutil.Process(number)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{round(process.create_time()):x}"
    except psutil.Error:
        return None
