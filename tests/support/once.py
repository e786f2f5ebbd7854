"""What takes long to make is made once per test session, by whichever worker needs it first."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder that `make` filled, the same for all workers; tests only read it, or copy it.

    Args:
        factory: pytest's fixture `tmp_path_factory`.
        name: of the folder; each has one maker.
        make: takes the path of a folder, which exists and is empty.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # each worker has a folder of its own in it
    folder, done = base / "made-once" / name, base / "made-once" / f"{name}.done"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            make(folder)
            done.touch()
    return folder
