"""The step `fine_tune` on several nodes: the task starts a TrainJob, waits for it, and copies its results."""

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

from components.fine_tune.step import fine_tune
from components.fine_tune.trainjob import (
    API_VERSION,
    PLURAL,
    VARIABLE,
    JobRequest,
    build_train_job,
    describe_progress,
    outcome,
)
from components.kubernetes import ACCOUNT, CustomObjects, MissingError, UnavailableError
from graft.core.atomic import read_json, remove, replacing, write_json
from graft.core.errors import GraftError
from graft.runs.step import ERROR_FILE, failure_exit

T = TypeVar("T")
Wait = Callable[[], None]
POLL_SECONDS = 5.0
RETRY_SECONDS = 600.0
"""How long the Kubernetes API may be unavailable: the job itself does not need it."""


def run_on_nodes(
    *,
    params: Mapping[str, Any],
    metrics: str | Path,
    dataset: str | Path,
    features: str | Path,
    head: str | Path,
    tuned: str | Path,
    account: Path = ACCOUNT,
    pause: float = POLL_SECONDS,
) -> None:
    """Do what `fine_tune.run` does, on the nodes that the job request in the environment asks for.

    Args:
        params: the step's parameter section, as plain values.
        metrics, dataset, features, head, tuned: the step's paths. Inputs outside the shared volume are copied there.
        account: the pod's service account.
        pause: seconds between two status checks of the job.

    Raises:
        SystemExit: if the job or its preparation fails; the message is one line.
    """
    metrics = Path(metrics)
    try:
        remove(metrics.parent / ERROR_FILE)
        request = JobRequest.model_validate_json(os.environ[VARIABLE])
        jobs = CustomObjects(API_VERSION, PLURAL, account)
        name = f"graft-fine-tune-{uuid.uuid4().hex[:10]}"
        with _work_folder(Path(request.path) / name) as folder, _stop_event() as stopped:
            inputs = {"dataset": Path(dataset), "features": Path(features), "head": Path(head)}
            inputs = {port: _shared(path, Path(request.path), folder / port) for port, path in inputs.items()}
            write_json(folder / "params.yaml", {fine_tune.name: dict(params)})
            _run(
                jobs,
                request,
                build_train_job(request, name, folder, inputs, os.environ),
                folder,
                partial(_wait, stopped, pause),
            )
            with replacing(Path(tuned), checksums=False) as temporary:
                shutil.copytree(folder / "tuned", temporary)
            write_json(metrics, read_json(folder / "metrics.json"))
    except Exception as error:
        raise failure_exit(fine_tune.name, error, metrics.parent / ERROR_FILE) from error


def _run(jobs: CustomObjects, request: JobRequest, manifest: Mapping[str, Any], folder: Path, wait: Wait) -> None:
    """Create the job, wait for its end, and delete it unless it should be kept."""
    name = manifest["metadata"]["name"]
    kept = False
    try:
        _retry(partial(jobs.create, manifest), wait)
        where = f"kubectl logs -n {jobs.namespace} -l jobset.sigs.k8s.io/jobset-name={name}"
        _print(f"TrainJob {name} is created; its log: {where}")
        end, reason = _wait_for_end(jobs, name, wait)
        kept = request.keep == "always" or (request.keep == "failed" and end == "Failed")
        if end == "Failed":
            raise GraftError(_cause(folder / ERROR_FILE) or f"TrainJob {name} failed ({reason}); {where} may show more")
    finally:
        if not kept:
            with suppress(GraftError):  # it is also deleted with its owner, the task's pod
                jobs.delete(name)


def _wait_for_end(jobs: CustomObjects, name: str, wait: Wait) -> tuple[str, str]:
    """Wait until the job ends; return its outcome and the reason."""
    shown = ""
    while True:
        try:
            job = _retry(partial(jobs.get, name), wait)
        except MissingError as error:
            raise GraftError(f"TrainJob {name} was deleted before it finished") from error
        if (now := describe_progress(job)) != shown:
            _print(f"TrainJob {name}: {now}")
            shown = now
        if found := outcome(job):
            return found
        wait()


def _retry(call: Callable[[], T], wait: Wait) -> T:
    """Retry while the API is unavailable."""
    until = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            return call()
        except UnavailableError:
            if time.monotonic() > until:
                raise
            wait()


def _wait(stopped: threading.Event, pause: float) -> None:
    if stopped.wait(pause):
        raise GraftError("stopped by SIGTERM")


def _shared(path: Path, volume: Path, place: Path) -> Path:
    """Return the path of an input on the shared volume: `path` itself if it is there, else a copy at `place`."""
    if path.resolve().is_relative_to(volume.resolve()):
        return path
    try:
        shutil.copytree(path, place)
    except OSError as error:
        raise GraftError(f"{path}: cannot be copied to the nodes' volume ({error})") from error
    return place


def _cause(error_file: Path) -> str | None:
    """Return the error line that the step wrote on a node."""
    if not error_file.is_file():
        return None
    return error_file.read_text(encoding="utf-8").strip().removeprefix(f"{fine_tune.name}: ")


@contextmanager
def _work_folder(folder: Path) -> Iterator[Path]:
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise GraftError(f"{folder}: the nodes' volume cannot be written ({error.strerror})") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # nodes that are being stopped may still write


@contextmanager
def _stop_event() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM sets: when Kubernetes stops the pod, the job must stop too."""
    stopped = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGTERM, before)


def _print(text: str) -> None:
    print(f"{fine_tune.name}: {text}", file=sys.stderr, flush=True)
