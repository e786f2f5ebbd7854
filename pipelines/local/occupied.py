"""One run at a time writes to an output folder: a second one would take the first one's steps away."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graft.core.errors import GraftError

LOCK = ".lock"


@contextmanager
def occupied(folder: Path, lock_folder: Path) -> Iterator[None]:
    """Hold the folder for this process; a dead owner's hold ends with it.

    Args:
        folder: where results are written.
        lock_folder: for the lock's file; made if it is missing.

    Raises:
        GraftError: if another process holds it; the message names the process.
    """
    lock_folder.mkdir(parents=True, exist_ok=True)
    with (lock_folder / LOCK).open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            owner = lock.read().strip() or "another process"
            raise GraftError(
                f"{folder}: {owner} writes its results here; wait for it, or choose another folder (--out)"
            ) from error
        lock.truncate(0)
        lock.write(f"a run (process {os.getpid()}, since {time.strftime('%H:%M')})")
        lock.flush()
        yield
