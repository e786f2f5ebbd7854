"""The model server as a process of its own, as `make try` starts it."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 180
ROOT = Path(__file__).resolve().parents[2]


def try_command(*more: str) -> list[str]:
    """Return the command line of the server."""
    return [sys.executable, "-m", "pipelines.cli", "try", *more]


@contextmanager
def running(log: Path, *more: str) -> Iterator[str]:
    """Start the server on a free port, wait for its announcement, and yield its address."""
    with log.open("w") as output:
        process = subprocess.Popen(
            try_command("--port", "0", *more), cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=os.environ
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"at (http://\S+)/ ", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield found[1]
    finally:
        process.terminate()
        process.wait(30)
