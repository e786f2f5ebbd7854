"""SIGTERM as a clean end: what runs is unwound, records say KILLED, no child process stays, and the exit code is 143.

Schedulers (Kubernetes, Slurm, systemd, a closed terminal) end a process so. Python's own answer is to vanish at once.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import psutil


class Terminated(SystemExit):
    """The process was asked to end."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)

    def __str__(self) -> str:
        return "the process was asked to end (SIGTERM)"


@contextmanager
def clean_end_on_sigterm() -> Iterator[None]:
    """Raise `Terminated` in the main thread on SIGTERM, after passing the signal on to all child processes.

    In another thread, where Python allows no handlers, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one request to end is enough
    for child in psutil.Process().children(recursive=True):
        try:
            child.terminate()
        except psutil.Error:
            continue
    raise Terminated
