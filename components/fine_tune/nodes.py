"""Step fine_tune on several nodes: the task hands its work to a TrainJob, waits, and brings home what came of it."""

import os
import shutil
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from components.fine_tune.kubernetes import ACCOUNT, MissingError, Objects, UnavailableError
from components.fine_tune.step import fine_tune
from components.fine_tune.trainjob import API_VERSION, PLURAL, VARIABLE, Order, filled, outcome, progress
from graft.core.atomic import read_json, remove, replacing, write_json
from graft.core.errors import GraftError
from graft.runs.step import ERROR_FILE, ended

T = TypeVar("T")
Wait = Callable[[], None]
SECONDS_BETWEEN_LOOKS = 5.0
PATIENCE_SECONDS = 600.0
"""How long Kubernetes' API may be away: the job itself does not need it."""


def run_on_nodes(
    *,
    params: Mapping[str, Any],
    metrics: str | Path,
    dataset: str | Path,
    head: str | Path,
    model: str | Path,
    account: Path = ACCOUNT,
    pause: float = SECONDS_BETWEEN_LOOKS,
) -> None:
    """Do what `fine_tune.run` does, on the nodes that the environment's order asks for.

    Args:
        params: the step's section, as plain values.
        metrics, dataset, head, model: the step's paths. Inputs that are not on the shared volume are copied there.
        account: the pod's service account.
        pause: seconds between two looks at the job.

    Raises:
        SystemExit: with the one-line cause, if the job or what leads to it fails.
    """
    metrics = Path(metrics)
    try:
        remove(metrics.parent / ERROR_FILE)
        order = Order.model_validate_json(os.environ[VARIABLE])
        jobs = Objects(API_VERSION, PLURAL, account)
        name = f"graft-fine-tune-{uuid.uuid4().hex[:10]}"
        with _workplace(Path(order.path) / name) as folder, _stoppable() as stopped:
            inputs = {"dataset": Path(dataset), "head": Path(head)}
            inputs = {port: _shared(path, Path(order.path), folder / port) for port, path in inputs.items()}
            write_json(folder / "params.yaml", {fine_tune.name: dict(params)})
            _run(jobs, order, filled(order, name, folder, inputs, os.environ), folder, partial(_wait, stopped, pause))
            with replacing(Path(model)) as temporary:
                shutil.copytree(folder / "model", temporary)
            write_json(metrics, read_json(folder / "metrics.json"))
    except Exception as error:
        raise ended(fine_tune.name, error, metrics.parent / ERROR_FILE) from error


def _run(jobs: Objects, order: Order, manifest: Mapping[str, Any], folder: Path, wait: Wait) -> None:
    """Create the job, wait for its end, and delete it unless it is to be kept."""
    name = manifest["metadata"]["name"]
    kept = False
    try:
        _patiently(partial(jobs.create, manifest), wait)
        where = f"kubectl logs -n {jobs.namespace} -l jobset.sigs.k8s.io/jobset-name={name}"
        _say(f"TrainJob {name} is created; its own words: {where}")
        end, message = _awaited(jobs, name, wait)
        kept = order.keep == "always" or (order.keep == "failed" and end == "Failed")
        if end == "Failed":
            cause = _cause(folder / ERROR_FILE) or f"TrainJob {name} failed ({message}); {where} may tell more"
            raise GraftError(cause)
    finally:
        if not kept:
            with suppress(GraftError):  # its owner, the task's pod, takes it along
                jobs.delete(name)


def _awaited(jobs: Objects, name: str, wait: Wait) -> tuple[str, str]:
    """Return how the job ended, and the message that came with it."""
    shown = ""
    while True:
        try:
            job = _patiently(partial(jobs.get, name), wait)
        except MissingError as error:
            raise GraftError(f"TrainJob {name} was deleted before it was done") from error
        if (now := progress(job)) != shown:
            _say(f"TrainJob {name}: {now}")
            shown = now
        if found := outcome(job):
            return found
        wait()


def _patiently(ask: Callable[[], T], wait: Wait) -> T:
    """Ask again while the API is away, as it is now and then."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except UnavailableError:
            if time.monotonic() > until:
                raise
            wait()


def _wait(stopped: threading.Event, pause: float) -> None:
    if stopped.wait(pause):
        raise GraftError("told to stop (SIGTERM)")


def _shared(path: Path, volume: Path, place: Path) -> Path:
    """Return where the nodes see an input: where it is, if that is on the volume, else at `place`, copied."""
    if path.resolve().is_relative_to(volume.resolve()):
        return path
    try:
        shutil.copytree(path, place)
    except OSError as error:
        raise GraftError(f"{path}: cannot be copied to the nodes' volume ({error})") from error
    return place


def _cause(error_file: Path) -> str | None:
    """Return the line that the step left on a node."""
    if not error_file.is_file():
        return None
    return error_file.read_text(encoding="utf-8").strip().removeprefix(f"{fine_tune.name}: ")


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise GraftError(f"{folder}: the nodes' volume cannot be written ({error.strerror})") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # nodes that are being stopped may still write


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """Yield what SIGTERM sets, by which Kubernetes stops a pod: the job has to be stopped too."""
    stopped = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(text: str) -> None:
    print(f"{fine_tune.name}: {text}", file=sys.stderr, flush=True)
