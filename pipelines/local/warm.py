"""Start tasks from a warm server: each is a process of its own that finds what it imports already imported.

A step of the demo spends 3 to 15 s on imports in a new Python process. See `pipelines.local.warm_server`.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipelines.local.tasks import Start, Task


@contextmanager
def warm(steps: Sequence[str]) -> Iterator[Callable[[Start], Start]]:
    """Start the server, which begins to import, and yield a function that returns how to start tasks.

    Args:
        steps: names of the steps, in order, to import for.
    """
    server = _Server(steps)
    try:
        yield server.starting
    finally:
        server.close()


class _Server:
    def __init__(self, steps: Sequence[str]) -> None:
        self._steps = steps
        self._used = False
        self._process: subprocess.Popen[bytes]
        self._channel = self._launch()

    def starting(self, plain: Start) -> Start:
        """Return how to start tasks; if the server has ended (out of memory), they start by `plain`."""

        def start(task: Task) -> int:
            try:
                return self._run(task)
            except ConnectionError:
                print("the server that forks the steps has ended; the step starts in a new process")
                return plain(task)

        return start

    def close(self) -> None:
        """End the server."""
        self._channel.close()
        if not self._used:
            self._process.kill()  # it would finish an import first
        self._process.wait()

    def _run(self, task: Task) -> int:
        self._used = True
        environment = os.environ | task.environment | {"_KFP_RUNTIME": "true"}
        values = {
            "step": task.step,
            "source": task.source,
            "options": task.options,
            "environment": dict(environment),
            "folder": str(Path.cwd()),
        }
        with tempfile.TemporaryFile("w+", encoding="utf-8") as request:
            json.dump(values, request)
            request.seek(0)
            output, task_output = _pipe()
            status, task_status = _pipe()
            with output, status:
                with task_output, task_status:
                    descriptors = [request.fileno(), task_output.fileno(), task_status.fileno()]
                    socket.send_fds(self._channel, [b"."], descriptors)
                try:
                    for line in output:
                        print(line, end="")
                finally:  # after Ctrl-C the task still has to record how it ended
                    code = status.read()
        if not code:
            raise ConnectionError
        if int(code) < 0:
            killed = signal.Signals(-int(code)).name
            print(
                f"{task.step}: its process was ended by {killed}"
                + ("; is memory short?" if killed == "SIGKILL" else "")
            )
        return int(code)

    def _launch(self) -> socket.socket:
        channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.local.warm_server", str(theirs.fileno()), *self._steps],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"_KFP_RUNTIME": "true"},
            )
        return channel


def _pipe() -> tuple[IO[str], IO[str]]:
    read, write = os.pipe()
    return os.fdopen(read, encoding="utf-8", errors="replace"), os.fdopen(write, "w", encoding="utf-8")
