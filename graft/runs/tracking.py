"""The record of a pipeline in MLflow: one parent run, one child run per step.

Each step of a pipeline is a separate process (a DVC stage, a KFP task), so the environment ties their runs together:

- `MLFLOW_RUN_ID`, injected by Kubeflow's MLflow integration: that run is the parent, and its creator ends it;
- else `GRAFT_PIPELINE_RUN`, a key: the parent is the run tagged with it, created by the first step (and named by
  `GRAFT_RUN_NAME`);
- else `DVC_EXP_NAME`, as such a key; under `dvc exp run` no step knows that it is the last, so each ends the parent and
  the next one opens it again;
- else the step's run stands alone.

`MLFLOW_TRACKING_URI` and `MLFLOW_EXPERIMENT_NAME` / `MLFLOW_EXPERIMENT_ID` are MLflow's own; without them the store is
`mlruns/mlflow.db`, experiment `graft`.
"""

import hashlib
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.core.errors import GraftError
from graft.runs.abandoned import PIPELINE_PROCESS, PROCESS_TAG, end_abandoned_runs, this_process
from graft.runs.git_revision import environment_tags, git_revision
from graft.runs.mlflow_store import describe_failure, experiment_id, locked, open_client, tracking_uri, without_password
from graft.runs.termination import Terminated

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

PIPELINE_TAG = "graft.pipeline_run"
STEP_TAG = "graft.step"
ERROR_TAG = "error"
DATA_TAG = "data.digest"
STEPS_NOT_IN_PROVENANCE = ("review_features",)
"""Steps that no model depends on: they may run before or after a model is registered."""
DIGEST_LENGTH = 36  # of MLflow's column; the full digest is stored as a tag

_current: ContextVar["StepLog | None"] = ContextVar("graft_step_log", default=None)


def new_pipeline_run_key() -> str:
    """Return a fresh value for `GRAFT_PIPELINE_RUN`."""
    return uuid.uuid4().hex


class StepLog:
    """A step's record (see `graft.runs.run_log.Log`) in its own MLflow run, and in its pipeline's run if it has one."""

    def __init__(self, client: "MlflowClient", uri: str, run: "Run", parent: "Run | None") -> None:
        self.tracking_uri = uri
        self.client = client
        self.run_id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.pipeline_run_id: str = parent.info.run_id if parent else run.info.run_id
        self.finishes_pipeline = False
        self._step: str = run.data.tags[STEP_TAG]
        self._parent = parent

    def metric(self, name: str, value: float, step: int = 0) -> None:
        """Record one number; `step` is the epoch of a learning curve."""
        self.client.log_metric(self.run_id, _key(name), float(value), step=step)

    def params(self, values: Mapping[str, object]) -> None:
        """Record parameters and decisions: here under `name`, on the pipeline's run under `step.name`."""
        from mlflow.entities import Param

        flat = _flat(values)
        self.client.log_batch(self.run_id, params=[Param(_key(name), text) for name, text in flat.items()])
        if self._parent:
            # MLflow writes a parameter only once: a step that runs again in the same pipeline keeps the old value.
            known = self.client.get_run(self.pipeline_run_id).data.params
            fresh = {_key(f"{self._step}.{name}"): text for name, text in flat.items()}
            rows = [Param(name, text) for name, text in fresh.items() if name not in known]
            self.client.log_batch(self.pipeline_run_id, params=rows)

    def tag(self, name: str, value: str) -> None:
        """Record a searchable label."""
        self.client.set_tag(self.run_id, _key(name), value)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Store a file, or the content of a folder, in the artifact folder `folder` (None: the root)."""
        keep = self.client.log_artifacts if Path(path).is_dir() else self.client.log_artifact
        keep(self.run_id, str(path), folder)

    def dataset(self, name: str, digest: str, source: str, counts: Mapping[str, int], context: str) -> None:
        """Record which data the step used, as an input of its run and of the pipeline's."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        record = Dataset(
            name=name,
            digest=digest[:DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": source}),
            profile=json.dumps(dict(counts)),
        )
        entry = DatasetInput(record, [InputTag("mlflow.data.context", context)])
        for run_id in {self.run_id, self.pipeline_run_id}:
            self.client.log_inputs(run_id, [entry])
            self.client.set_tag(run_id, DATA_TAG, digest)

    def summary(self, values: Mapping[str, float]) -> None:
        """Record the summary metrics of the pipeline run."""
        self._log_numbers(self.pipeline_run_id, values)

    def _log_numbers(self, run_id: str, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(run_id, [Metric(_key(name), float(value), now, 0) for name, value in values.items()])


@contextmanager
def step_run(step: str, params: Mapping[str, object]) -> Iterator[StepLog]:
    """Open the step's run; yield its record; end it as FINISHED, FAILED (with tag `error`) or KILLED.

    A step that does not finish also ends its pipeline's run.

    Raises:
        GraftError: if the tracking server cannot be used.
    """
    uri = tracking_uri()
    client = open_client(uri)
    # MLflow would resume the injected run instead of opening a child of it.
    injected = os.environ.pop("MLFLOW_RUN_ID", None)
    with locked(uri):
        key = _pipeline_key()
        parent = client.get_run(injected) if injected else open_pipeline_run(client, key) if key else None
        experiment = parent.info.experiment_id if parent else experiment_id(client, uri)
        if not parent:
            end_abandoned_runs(client, experiment)
    started = time.monotonic()
    tags = {"mlflow.source.name": step, STEP_TAG: step, PROCESS_TAG: this_process(), **environment_tags()}
    if parent:
        tags["mlflow.parentRunId"] = parent.info.run_id
    log = StepLog(client, uri, client.create_run(experiment, tags=tags, run_name=step), parent)
    token = _current.set(log)
    outcome, reason = "FAILED", ""
    try:
        log.params(params)
        yield log
        outcome = "FINISHED"
    except BaseException as error:
        reason = (
            "asked to end" if isinstance(error, Terminated) else (str(error) or type(error).__name__).splitlines()[0]
        )
        outcome = "KILLED" if isinstance(error, KeyboardInterrupt | Terminated) else "FAILED"
        raise
    finally:
        _current.reset(token)
        if injected:
            os.environ["MLFLOW_RUN_ID"] = injected
        _end(log, outcome, reason, time.monotonic() - started, owned=not injected)


def finish_pipeline() -> None:
    """End the pipeline's run as FINISHED together with the current step: the last step calls this."""
    log = _current.get()
    if log:
        log.finishes_pipeline = True


def current() -> StepLog | None:
    """Return the record of the step that runs in this process, if any."""
    return _current.get()


def provenance() -> dict[str, str]:
    """Return what a model was made from: the git revision, the pipeline's run and the digest of its parameters.

    The digest leaves out `STEPS_NOT_IN_PROVENANCE`, so it does not depend on the order in which the steps run.
    """
    log = _current.get()
    tags = {"git.revision": revision} if (revision := git_revision()) else {}
    if log:
        params = log.client.get_run(log.pipeline_run_id).data.params
        of_model = {
            name: value for name, value in params.items() if name.partition(".")[0] not in STEPS_NOT_IN_PROVENANCE
        }
        content = json.dumps(sorted(of_model.items()))
        tags["params.digest"] = hashlib.sha256(content.encode()).hexdigest()
        tags["pipeline.run_id"] = log.pipeline_run_id
    return tags


def pipeline_run_id(key: str) -> str | None:
    """Return the id of the pipeline run with this key, if a step has opened it."""
    run = find_pipeline_run(open_client(), key)
    return run.info.run_id if run else None


def end_pipeline_run(key: str, status: str = "FINISHED") -> None:
    """End the pipeline run with this key if it is still running, as when its last step had nothing to do."""
    client = open_client()
    run = find_pipeline_run(client, key)
    if run and run.info.status == "RUNNING":
        client.set_terminated(run.info.run_id, status)


def open_pipeline_run(client: "MlflowClient", key: str) -> "Run":
    """Return the pipeline run with this key, created if missing; the caller holds the store's lock."""
    found = find_pipeline_run(client, key)
    if found:
        if _driven_by_dvc():
            client.update_run(found.info.run_id, status="RUNNING")
        return found
    name = os.environ.get("GRAFT_RUN_NAME") or os.environ.get("DVC_EXP_NAME")
    experiment = experiment_id(client, tracking_uri())
    end_abandoned_runs(client, experiment)
    owner = os.environ.get(PIPELINE_PROCESS)
    tags = {PIPELINE_TAG: key, **({PROCESS_TAG: owner} if owner else {}), **environment_tags()}
    return client.create_run(experiment, tags=tags, run_name=name)


def find_pipeline_run(client: "MlflowClient", key: str) -> "Run | None":
    """Return the pipeline run with this key, if a step has opened it."""
    quoted = key.replace("'", "")
    runs = client.search_runs(
        [experiment_id(client, tracking_uri())],
        filter_string=f"tags.`{PIPELINE_TAG}` = '{quoted}'",
        order_by=["attributes.start_time ASC"],
        max_results=1,
    )
    return runs[0] if runs else None


def _end(log: StepLog, outcome: str, reason: str, seconds: float, *, owned: bool) -> None:
    """End the step's run, and the pipeline's if we own it; never hide why a step failed."""
    try:
        log.metric("duration_seconds", seconds)
        runs = {log.run_id}
        if owned and (outcome != "FINISHED" or log.finishes_pipeline or _driven_by_dvc()):
            runs.add(log.pipeline_run_id)
        for run_id in sorted(runs, key=lambda run_id: run_id != log.run_id):
            if reason:
                own = run_id == log.run_id
                log.client.set_tag(run_id, ERROR_TAG, reason if own else f"{log._step}: {reason}")
            elif run_id != log.run_id:
                with suppress(Exception):  # the tag exists only if an earlier attempt failed
                    log.client.delete_tag(run_id, ERROR_TAG)
            log.client.set_terminated(run_id, outcome)
    except Exception as error:
        if outcome == "FINISHED":
            raise GraftError(f"MLflow at {without_password(log.tracking_uri)} {describe_failure(error)}") from error
        print(f"the run could not be marked {outcome} in MLflow: {error}", file=sys.stderr)


def _pipeline_key() -> str | None:
    return os.environ.get("GRAFT_PIPELINE_RUN") or os.environ.get("DVC_EXP_NAME") or None


def _driven_by_dvc() -> bool:
    return "DVC_EXP_NAME" in os.environ and not os.environ.get("GRAFT_PIPELINE_RUN")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat


def _key(name: str) -> str:
    """Return `name` with the characters that MLflow does not allow replaced (a class may have any name)."""
    return re.sub(r"[^\w.\-/: ]", "_", name)[:250]
