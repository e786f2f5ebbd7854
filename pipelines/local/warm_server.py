"""A process that imports what the steps need once, and forks a process for each task.

    python -m pipelines.local.warm_server FD STEP...

FD is a socket to `pipelines.local.warm`. Each message on it has three file descriptors: the request (JSON), where the
task's output goes, and where its exit code goes. Nothing but imports happens before a fork: no Python threads, no
tensors. Modules are imported in the order of the steps; a task starts when those of its step are there, and the server
imports for the later steps meanwhile.
"""

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from graft.core.source_code import import_closure

FIRST = (
    "kfp.dsl.executor_main",
    "graft.runs.mlflow_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
)
"""What every step imports in functions."""
LATER = ("sklearn.model_selection", "sklearn.cluster", "scipy.cluster.hierarchy", "mlflow.pyfunc.model")
"""What the steps with a model import in functions."""
NOT_IMPORTED = frozenset({"graft.data.dvc_versions"})
"""Modules that most runs do not need, and that import a large package: DVC."""


def serve(channel: socket.socket, steps: Sequence[str]) -> dict[str, Any] | None:
    """Import modules and answer requests.

    Returns:
        In the process of a task: its request. In the server: None, when the other end of the socket is closed.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # both reach the tasks too; the server ends with its client
    missing = deque(_by_step(steps))
    while True:
        if select.select([channel], [], [], 0 if missing else None)[0]:
            message, descriptors, _, _ = socket.recv_fds(channel, 1, 3)
            _reap()
            if not message:
                return None
            request_file, output, status = descriptors
            with os.fdopen(request_file, encoding="utf-8") as file:
                request = dict(json.load(file))
            while any(step == request["step"] for step, _ in missing):
                for name in missing.popleft()[1]:
                    import_module(name)
            if _fork(output, status):
                channel.close()
                return request
        elif missing:
            name = next(missing[0][1], "")
            if name:
                import_module(name)
            else:
                missing.popleft()


def modules(steps: Sequence[str]) -> Iterator[str]:
    """Yield the modules that the steps need, each once, in the order of the steps."""
    for _, names in _by_step(steps):
        yield from names


def _by_step(steps: Sequence[str]) -> list[tuple[str, Iterator[str]]]:
    """Return what each step needs beyond those before it; a step's code is read when its first module is asked for."""
    seen = set(NOT_IMPORTED)

    def names(number: int, step: str) -> Iterator[str]:
        for name in (*(FIRST if number == 0 else ()), *import_closure(f"components.{step}.step")):
            if name not in seen:
                seen.add(name)
                yield name
        if number == len(steps) - 1:
            yield from LATER

    return [(step, names(number, step)) for number, step in enumerate(steps)]


def import_module(name: str) -> None:
    """Import one module; a missing package is not an error here: a step that needs it says so itself."""
    with suppress(ImportError):
        module = importlib.import_module(name)
        if name == "graft.runs.mlflow_store":
            module.quiet_mlflow()


def _fork(output: int, status: int) -> bool:
    """Fork a process for the task, and one that waits for it and reports its exit code; return True in the task."""
    gc.freeze()  # collections in the task would copy the pages that hold the modules
    if os.fork():
        os.close(output)
        os.close(status)
        return False
    if task := os.fork():
        os.close(output)
        _, ended = os.waitpid(task, 0)
        os.write(status, str(os.waitstatus_to_exitcode(ended)).encode())
        os._exit(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.close(status)
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    return True


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def run(request: dict[str, Any]) -> None:
    """Run a task in this process, as KFP's command does."""
    from kfp.dsl.executor_main import executor_main

    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / "ephemeral_component.py"
        module.write_text(request["source"], encoding="utf-8")
        sys.argv = ["executor_main", "--component_module_path", str(module), *request["options"]]
        executor_main()


def end(error: BaseException | None) -> None:
    """End the process of a task, as Python does after `error`, but without clearing all modules, which takes 1 s."""
    code = 1
    if error is None:
        code = 0
    elif isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    else:
        traceback.print_exception(error)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    asked = serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
    if asked:
        try:
            run(asked)
        except BaseException as error:
            end(error)
        end(None)
