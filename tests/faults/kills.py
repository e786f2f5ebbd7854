"""What every test with kill -9 needs: work in a process that is killed at a moment, and what it must not leave."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from graft.runs.mlflow_store import experiment_id, open_client, tracking_uri

_UNFINISHED = (".tmp", ".old", ".journal", ".commit")


def forked(work: Callable[[], object], log: Path, kill_after: float | None = None) -> tuple[int, float]:
    """Do some work in a child process, killed with all of its own children after some seconds if it still runs.

    Returns:
        Its exit code (-9 if it was killed), and how many seconds it took.
    """
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()
        os._exit(_exit_code(work, log))
    ended = kill_after is not None and _ends_within(child, began + kill_after)
    if kill_after is not None and not ended:
        try:
            os.killpg(child, signal.SIGKILL)
        except ProcessLookupError:  # it has no group of its own yet
            os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), time.monotonic() - began


def _ends_within(child: int, end: float) -> bool:
    while time.monotonic() < end:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return True
        time.sleep(0.001)
    return False


def _exit_code(work: Callable[[], object], log: Path) -> int:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(output, standard)
    code = 0
    try:
        work()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        code = 1
    sys.stdout.flush()
    return code


def left(place: Path) -> list[str]:
    """Return what a finished rerun must not leave: runs that are RUNNING, temporaries in a folder and its `tmp`."""
    client = open_client()
    runs = client.search_runs(
        [experiment_id(client, tracking_uri())], "attributes.status = 'RUNNING'", max_results=1000
    )
    running = [f"{run.info.run_name} is RUNNING, of {run.data.tags.get('graft.process')}" for run in runs]
    unfinished = [str(path) for path in place.rglob(".*") if path.suffix in _UNFINISHED]
    return running + unfinished + [str(path) for path in (place / "tmp").iterdir()]
