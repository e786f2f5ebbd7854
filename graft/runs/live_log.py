"""A step's record as MLflow gets it at once."""

import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from graft.runs.abandoned import end_abandoned_runs

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

STEP_TAG = "graft.step"
ERROR_TAG = "error"
DATA_TAG = "data.digest"
PIPELINE_TAG = "graft.pipeline_run"
"""On the run of a pipeline that we opened: its key."""
NAMED_TAG = "graft.named"
"""On the run of a pipeline that the user named."""
NOTE_TAG = "mlflow.note.content"
"""The description that MLflow shows."""
DIGEST_LENGTH = 36  # of MLflow's column; the full digest is stored as a tag


Outcome = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Ending:
    """How a step ended."""

    outcome: Outcome
    reason: str
    """First line of what it failed with; empty if it finished."""
    seconds: float
    ends_pipeline: bool
    """Whether the pipeline's run ends with it."""


class LiveLog:
    """A step's record (see `graft.runs.run_log.Log`) in its own MLflow run, and in its pipeline's run if it has one."""

    def __init__(self, client: "MlflowClient", uri: str, run: "Run", parent: "Run | None") -> None:
        self.tracking_uri = uri
        self.client = client
        self.run_id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.pipeline_run_id: str = parent.info.run_id if parent else run.info.run_id
        self.step: str = run.data.tags[STEP_TAG]
        self._parent = parent

    def metric(self, name: str, value: float, step: int = 0) -> None:
        """Record one number; `step` is the epoch of a learning curve."""
        self.client.log_metric(self.run_id, _key(name), float(value), step=step)

    def params(self, values: Mapping[str, object]) -> None:
        """Record parameters and decisions: here under `name`, on the pipeline's run under `step.name`."""
        from mlflow.entities import Param

        flat = flat_texts(values)
        self.client.log_batch(self.run_id, params=[Param(_key(name), text) for name, text in flat.items()])
        if self._parent:
            # MLflow writes a parameter only once: a step that runs again in the same pipeline keeps the old value.
            known = self.client.get_run(self.pipeline_run_id).data.params
            fresh = {_key(f"{self.step}.{name}"): text for name, text in flat.items()}
            rows = [Param(name, text) for name, text in fresh.items() if name not in known]
            self.client.log_batch(self.pipeline_run_id, params=rows)

    def tag(self, name: str, value: str) -> None:
        """Record a searchable label."""
        self.client.set_tag(self.run_id, _key(name), value)

    def artifact(self, path: Path, folder: str | None = None, *, shared: bool = False) -> None:
        """Store a file, or the content of a folder, in the artifact folder `folder` (None: the root)."""
        keep = self.client.log_artifacts if Path(path).is_dir() else self.client.log_artifact
        for run_id in dict.fromkeys([self.run_id, *([self.pipeline_run_id] if shared else [])]):
            keep(run_id, str(path), folder)

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

    def describe(self, name: str, text: str) -> None:
        """Name the pipeline's run, unless the user did, and describe it."""
        self.client.set_tag(self.pipeline_run_id, NOTE_TAG, text)
        if self._parent and PIPELINE_TAG in self._parent.data.tags and NAMED_TAG not in self._parent.data.tags:
            self.client.update_run(self.pipeline_run_id, name=name)

    def _log_numbers(self, run_id: str, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(run_id, [Metric(_key(name), float(value), now, 0) for name, value in values.items()])


def end_run(live: LiveLog, ending: Ending, end_time: int | None = None) -> None:
    """End the step's run, and the pipeline's where it ends with it.

    Args:
        live: the runs.
        ending: how the step ended.
        end_time: milliseconds since 1970; None: now.
    """
    live.metric("duration_seconds", ending.seconds)
    for run_id in dict.fromkeys([live.run_id, *([live.pipeline_run_id] if ending.ends_pipeline else [])]):
        if ending.reason:
            own = run_id == live.run_id
            live.client.set_tag(run_id, ERROR_TAG, ending.reason if own else f"{live.step}: {ending.reason}")
        elif run_id != live.run_id:
            with suppress(Exception):  # the tag exists only if an earlier attempt failed
                live.client.delete_tag(run_id, ERROR_TAG)
        live.client.set_terminated(run_id, ending.outcome, end_time)
    if ending.ends_pipeline:  # what was killed just before this pipeline began may have been ending still
        end_abandoned_runs(live.client, live.experiment_id)


def flat_texts(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the values as texts, nested ones under `outer.inner`."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flat_texts(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat


def _key(name: str) -> str:
    """Return `name` with the characters that MLflow does not allow replaced (a class may have any name)."""
    return re.sub(r"[^\w.\-/: ]", "_", name)[:250]
