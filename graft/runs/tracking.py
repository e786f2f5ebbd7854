"""The record of a pipeline in MLflow: one parent run, one child run per step.

Each step of a pipeline is a separate process (a DVC stage, a KFP task), so the environment ties their runs together:

- `MLFLOW_RUN_ID`, injected by Kubeflow's MLflow integration: that run is the parent, and its creator ends it;
- else `GRAFT_PIPELINE_RUN`, a key: the parent is the run tagged with it, created by the first step (and named by
  `GRAFT_RUN_NAME`);
- else `DVC_EXP_NAME`, as such a key; under `dvc exp run` no step knows that it is the last, so each ends the parent and
  the next one opens it again;
- else the step's run stands alone.

A step that MLflow does not answer goes on: what it records is kept and delivered later (see `graft.runs.undelivered`).

`MLFLOW_TRACKING_URI` and `MLFLOW_EXPERIMENT_NAME` / `MLFLOW_EXPERIMENT_ID` are MLflow's own; without them the store is
`mlruns/mlflow.db`, experiment `graft`.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from graft.core.credentials import mask_credentials
from graft.core.errors import GraftError
from graft.core.owners import this_process
from graft.runs import undelivered
from graft.runs.abandoned import PIPELINE_PROCESS, PROCESS_TAG, end_abandoned_runs
from graft.runs.git_revision import environment_tags, git_revision
from graft.runs.live_log import STEP_TAG, Ending, LiveLog, Outcome, end_run, flat_texts
from graft.runs.mlflow_store import (
    RECORDING,
    describe_failure,
    experiment_id,
    locked,
    open_client,
    patience,
    tracking_uri,
    usable_store,
    without_password,
)
from graft.runs.pipeline_runs import driven_by_dvc, parent_run, pipeline_key
from graft.runs.termination import Terminated

STEPS_NOT_IN_PROVENANCE = ("review_features",)
"""Steps that no model depends on: they may run before or after a model is registered."""

_current: ContextVar["StepLog | None"] = ContextVar("graft_step_log", default=None)


class StepLog:
    """A step's record (see `graft.runs.run_log.Log`): MLflow gets it at once, or later if it fails to take it."""

    def __init__(self, live: LiveLog | None, record: undelivered.Record, failed: str = "") -> None:
        self.tracking_uri = record.uri
        self.finishes_pipeline = False
        self._live = live
        self._outbox = undelivered.Outbox(record, failed)

    @property
    def live(self) -> LiveLog:
        """The runs in MLflow.

        Raises:
            GraftError: if MLflow did not answer when the step began.
        """
        if self._live is None:
            raise GraftError(f"MLflow at {without_password(self.tracking_uri)} does not answer")
        return self._live

    @property
    def run_id(self) -> str:
        """The step's run."""
        return self.live.run_id

    @property
    def experiment_id(self) -> str:
        """The experiment of both runs."""
        return self.live.experiment_id

    @property
    def pipeline_run_id(self) -> str:
        """The pipeline's run; the step's, if it runs alone."""
        return self.live.pipeline_run_id

    def metric(self, name: str, value: float, step: int = 0) -> None:
        """Record one number; `step` is the epoch of a learning curve."""
        value = float(value)
        self._deliver(
            lambda live: live.metric(name, value, step),
            lambda outbox: outbox.keep("metric", name=name, value=value, step=step),
        )

    def params(self, values: Mapping[str, object]) -> None:
        """Record parameters and decisions: here under `name`, on the pipeline's run under `step.name`."""
        texts = {name: mask_credentials(text) for name, text in flat_texts(values).items()}
        self._deliver(lambda live: live.params(texts), lambda outbox: outbox.keep("params", values=texts))

    def tag(self, name: str, value: str) -> None:
        """Record a searchable label."""
        value = mask_credentials(value)
        self._deliver(lambda live: live.tag(name, value), lambda outbox: outbox.keep("tag", name=name, value=value))

    def artifact(self, path: Path, folder: str | None = None, *, shared: bool = False) -> None:
        """Store a file, or the content of a folder, in the artifact folder `folder` (None: the root)."""
        self._deliver(
            lambda live: live.artifact(path, folder, shared=shared),
            lambda outbox: outbox.keep_artifact(Path(path), folder, shared),
        )

    def dataset(self, name: str, digest: str, source: str, counts: Mapping[str, int], context: str) -> None:
        """Record which data the step used, as an input of its run and of the pipeline's."""
        source = mask_credentials(source)
        values = {"name": name, "digest": digest, "source": source, "counts": dict(counts), "context": context}
        self._deliver(
            lambda live: live.dataset(name, digest, source, counts, context),
            lambda outbox: outbox.keep("dataset", **values),
        )

    def summary(self, values: Mapping[str, float]) -> None:
        """Record the summary metrics of the pipeline run."""
        numbers = {name: float(value) for name, value in values.items()}
        self._deliver(lambda live: live.summary(numbers), lambda outbox: outbox.keep("summary", values=numbers))

    def describe(self, name: str, text: str) -> None:
        """Name the pipeline's run, unless the user did, and describe it."""
        self._deliver(
            lambda live: live.describe(name, text), lambda outbox: outbox.keep("describe", name=name, text=text)
        )

    def end(self, ending: Ending) -> None:
        """End the step's run, and its pipeline's where that is due; keep what could not be delivered."""
        self._deliver(lambda live: end_run(live, ending), lambda outbox: None)
        if self._outbox.failed:
            self._outbox.save(ending)
            print(
                f"MLflow at {without_password(self.tracking_uri)} {self._outbox.failed}: the record of this step is "
                f"kept in {undelivered.place()}; the next run or graft sync delivers it",
                file=sys.stderr,
            )

    def _deliver(self, now: Callable[[LiveLog], None], later: Callable[[undelivered.Outbox], None]) -> None:
        """Record something; from the first failure on everything is kept, so that nothing changes its order."""
        if self._live and not self._outbox.failed:
            try:
                with patience(RECORDING):
                    now(self._live)
                return
            except Exception as error:  # of MLflow, the database, the network, the store of artifacts
                self._outbox.failed = describe_failure(error)
        later(self._outbox)


@contextmanager
def step_run(step: str, params: Mapping[str, object], *, goes_on: bool = False) -> Iterator[StepLog]:
    """Open the step's run; yield its record; end it as FINISHED, FAILED (with tag `error`) or KILLED.

    A step that does not finish also ends its pipeline's run.

    Args:
        step: its name.
        params: its section of the parameters.
        goes_on: whether the step runs though MLflow does not answer, since work went before it that would be lost.

    Raises:
        GraftError: if the tracking server cannot be used, unless `goes_on`.
    """
    uri = tracking_uri()
    # MLflow would resume the injected run instead of opening a child of it.
    injected = os.environ.pop("MLFLOW_RUN_ID", None)
    record = undelivered.Record(
        uri=uri,
        step=step,
        key=pipeline_key(),
        injected=injected,
        started=int(time.time() * 1000),
        tags={"mlflow.source.name": step, STEP_TAG: step, PROCESS_TAG: this_process(), **environment_tags()},
    )
    started = time.monotonic()
    try:
        live, failed = _open(record), ""
    except GraftError as error:
        if not goes_on:
            raise
        live, failed = None, describe_failure(error.__cause__ if isinstance(error.__cause__, Exception) else error)
        print(f"{error}; the step goes on", file=sys.stderr)
    if live:
        record.run_id = live.run_id
    log = StepLog(live, record, failed)
    token = _current.set(log)
    outcome: Outcome = "FAILED"
    reason = ""
    try:
        log.params(params)
        yield log
        outcome = "FINISHED"
    except BaseException as error:
        reason = mask_credentials((str(error) or type(error).__name__).splitlines()[0])
        outcome = "KILLED" if isinstance(error, KeyboardInterrupt | Terminated) else "FAILED"
        raise
    finally:
        _current.reset(token)
        if injected:
            os.environ["MLFLOW_RUN_ID"] = injected
        last = log.finishes_pipeline and PIPELINE_PROCESS not in os.environ
        ends_pipeline = not injected and (outcome != "FINISHED" or last or driven_by_dvc())
        seconds = time.monotonic() - started
        log.end(Ending(outcome=outcome, reason=reason, seconds=seconds, ends_pipeline=ends_pipeline))


def _open(record: undelivered.Record) -> LiveLog:
    """Open the step's run, after delivering what earlier steps could not."""
    client = open_client(record.uri)
    with usable_store(record.uri), patience(RECORDING):
        undelivered.deliver(record.uri)
        with locked(record.uri):
            parent = parent_run(client, record.injected, record.key)
            experiment = parent.info.experiment_id if parent else experiment_id(client, record.uri)
            if not parent:
                end_abandoned_runs(client, experiment)
        tags = dict(record.tags)
        if parent:
            tags["mlflow.parentRunId"] = parent.info.run_id
        return LiveLog(client, record.uri, client.create_run(experiment, tags=tags, run_name=record.step), parent)


def finish_pipeline() -> None:
    """End the pipeline's run as FINISHED together with the current step: the last step calls this.

    Where a process of this machine runs the pipeline (`PIPELINE_PROCESS`), that ends it, when all results are in place.
    """
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
        params = log.live.client.get_run(log.pipeline_run_id).data.params
        of_model = {
            name: value for name, value in params.items() if name.partition(".")[0] not in STEPS_NOT_IN_PROVENANCE
        }
        content = json.dumps(sorted(of_model.items()))
        tags["params.digest"] = hashlib.sha256(content.encode()).hexdigest()
        tags["pipeline.run_id"] = log.pipeline_run_id
    return tags
