"""Records that MLflow did not take, because it was gone, slow, full or refused: kept on disk, delivered later.

Work that is done is worth more than its record. So a step never fails for it: what it has to tell is written to
`mlruns/undelivered/` (or the folder that `GRAFT_UNDELIVERED` names), and the next step, the next run or `make sync`
delivers it. Delivering twice does no harm: numbers, parameters and files are the same.
"""

import fcntl
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from graft.core.atomic import remove, write_text
from graft.core.errors import GraftError
from graft.core.owners import is_abandoned, owner_mark
from graft.runs.live_log import Ending, LiveLog, end_run
from graft.runs.mlflow_store import (
    describe_failure,
    experiment_id,
    locked,
    open_client,
    tracking_uri,
    without_password,
)
from graft.runs.pipeline_runs import end_pipeline_run, parent_run

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

RECORD_FILE, ARTIFACTS = "record.json", "artifacts"
PIPELINE = "pipeline"
"""Stands for a step in the record of a pipeline that has ended."""


class Call(BaseModel):
    """One thing to record: a method of the log, and its arguments."""

    model_config = ConfigDict(extra="forbid")

    method: Literal["metric", "params", "tag", "artifact", "dataset", "summary", "describe"]
    arguments: dict[str, Any]
    """Of an artifact: `path`, relative to the record's folder of artifacts, `folder` and `shared`."""


class Record(BaseModel):
    """What MLflow has to be told about a step."""

    model_config = ConfigDict(extra="forbid")

    uri: str
    """The store."""
    step: str
    key: str | None
    """Of the pipeline."""
    injected: str | None
    """The run that the step's run belongs to, where Kubeflow gives it."""
    started: int
    """Milliseconds since 1970."""
    tags: dict[str, str]
    run_id: str | None = None
    """The step's run, once MLflow has it."""
    calls: list[Call] = Field(default_factory=list)
    ending: Ending | None = None


class Outbox:
    """What a running step could not deliver."""

    def __init__(self, record: Record, failed: str = "") -> None:
        self.failed = failed
        """Why MLflow did not take something, as the predicate of a sentence; empty as long as it does."""
        self._record = record
        self._folder: Path | None = None

    def keep(self, method: Any, **arguments: Any) -> None:
        """Keep one call for later."""
        self._record.calls.append(Call(method=method, arguments=arguments))

    def keep_artifact(self, path: Path, folder: str | None, shared: bool) -> None:
        """Keep a copy of a file or folder, which may be gone when it is delivered."""
        name = f"{len(self._record.calls)}/{path.name}"
        target = self._made() / ARTIFACTS / name
        target.parent.mkdir(parents=True)
        if path.is_dir():
            shutil.copytree(path, target)
        else:
            shutil.copyfile(path, target)
        self.keep("artifact", path=name, folder=folder, shared=shared)

    def save(self, ending: Ending) -> None:
        """Write everything; from now on it is delivered."""
        self._record.ending = ending
        write_text(self._made() / RECORD_FILE, self._record.model_dump_json(indent=2))

    def _made(self) -> Path:
        if self._folder is None:
            place().mkdir(parents=True, exist_ok=True)
            name = f"{time.strftime('%Y%m%d-%H%M%S')}-{self._record.step}-{uuid.uuid4().hex[:8]}.{owner_mark()}"
            self._folder = place() / name
            self._folder.mkdir()
        return self._folder


def end_pipeline(key: str, seconds: float) -> None:
    """End the run of the pipeline of this key, which took so long, as FINISHED: now, or as soon as MLflow answers."""
    uri = tracking_uri()
    try:
        end_pipeline_run(key)
    except Exception as error:  # of MLflow, the database, the network
        started = round(1000 * (time.time() - seconds))
        record = Record(uri=uri, step=PIPELINE, key=key, injected=None, started=started, tags={})
        reason = "does not answer" if isinstance(error, GraftError) else describe_failure(error)
        Outbox(record, reason).save(Ending(outcome="FINISHED", reason="", seconds=seconds, ends_pipeline=True))
        print(
            f"MLflow at {without_password(uri)} {reason}: the next run or graft sync tells it that this run has ended",
            file=sys.stderr,
        )


def place() -> Path:
    """Return the folder of records that are not delivered yet."""
    return Path(os.environ.get("GRAFT_UNDELIVERED") or "mlruns/undelivered").absolute()


def deliver(uri: str) -> tuple[int, list[str]]:
    """Tell MLflow at `uri` everything that is kept for it, oldest first.

    Returns:
        the number of records delivered, and one line for each that could not be; it is tried again next time.
    """
    delivered, problems = 0, []
    with _one_at_a_time() as folders:
        for folder in folders:
            try:
                record = Record.model_validate_json((folder / RECORD_FILE).read_bytes())
            except (OSError, ValidationError):  # its step is still running, or it is of another version
                if not (folder / RECORD_FILE).exists() and is_abandoned(folder.name.rpartition(".")[2]):
                    remove(folder)  # its step was killed, and the rerun tells MLflow the same
                continue
            if record.uri != uri:
                continue
            try:
                _deliver(record, folder)
            except Exception as error:  # of MLflow, the database, the network, the store of artifacts
                told = f"MLflow at {without_password(uri)} {describe_failure(error)}"
                problems.append(f"{folder}: {error if isinstance(error, GraftError) else told}")
            else:
                remove(folder)
                delivered += 1
    return delivered, problems


@contextmanager
def _one_at_a_time() -> Iterator[list[Path]]:
    """Yield the folders of all records while no other process delivers."""
    if not place().is_dir():
        yield []
        return
    with (place() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield sorted(folder for folder in place().iterdir() if folder.is_dir())


def _deliver(record: Record, folder: Path) -> None:
    if record.step == PIPELINE:
        end_pipeline_run(record.key or "")
        return
    client = open_client(record.uri)
    live = _opened(client, record)
    if record.run_id is None:
        record.run_id = live.run_id  # if this is interrupted, the next attempt goes on with the same run
        write_text(folder / RECORD_FILE, record.model_dump_json(indent=2))
    for call in record.calls:
        arguments: Mapping[str, Any] = call.arguments
        if call.method == "artifact":
            arguments = {**arguments, "path": folder / ARTIFACTS / arguments["path"]}
        getattr(live, call.method)(**arguments)
    if record.ending:
        end_run(live, record.ending, record.started + int(1000 * record.ending.seconds))


def _opened(client: "MlflowClient", record: Record) -> LiveLog:
    """Return the step's run, created if MLflow has never heard of it."""
    with locked(record.uri):
        parent = parent_run(client, record.injected, record.key)
    if record.run_id:
        return LiveLog(client, record.uri, client.get_run(record.run_id), parent)
    tags = record.tags | ({"mlflow.parentRunId": parent.info.run_id} if parent else {})
    experiment = parent.info.experiment_id if parent else experiment_id(client, record.uri)
    run = client.create_run(experiment, start_time=record.started, tags=tags, run_name=record.step)
    return LiveLog(client, record.uri, run, parent)
