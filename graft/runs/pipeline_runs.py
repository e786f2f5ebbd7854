"""The run of a whole pipeline: the parent that the runs of its steps share, found by its key."""

import json
import os
import uuid
from typing import TYPE_CHECKING

from graft.runs.abandoned import PIPELINE_PROCESS, PROCESS_TAG, end_abandoned_runs
from graft.runs.git_revision import environment_tags
from graft.runs.live_log import NAMED_TAG, PIPELINE_TAG
from graft.runs.mlflow_store import experiment_id, open_client, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

RUN_TAGS = "GRAFT_RUN_TAGS"
"""Environment variable: further tags of the pipeline's run, as JSON."""


def new_pipeline_run_key() -> str:
    """Return a fresh value for `GRAFT_PIPELINE_RUN`."""
    return uuid.uuid4().hex


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
        # what was killed just before this pipeline began may have been ending still
        end_abandoned_runs(client, run.info.experiment_id)


def open_pipeline_run(client: "MlflowClient", key: str) -> "Run":
    """Return the pipeline run with this key, created if missing; the caller holds the store's lock."""
    found = find_pipeline_run(client, key)
    if found:
        if driven_by_dvc():
            client.update_run(found.info.run_id, status="RUNNING")
        return found
    name = os.environ.get("GRAFT_RUN_NAME") or os.environ.get("DVC_EXP_NAME")
    experiment = experiment_id(client, tracking_uri())
    end_abandoned_runs(client, experiment)
    owner = os.environ.get(PIPELINE_PROCESS)
    asked = json.loads(os.environ.get(RUN_TAGS) or "{}")
    tags = {PIPELINE_TAG: key, **({PROCESS_TAG: owner} if owner else {}), **environment_tags(), **asked}
    if name:
        tags[NAMED_TAG] = "true"
    return client.create_run(experiment, tags=tags, run_name=name)


def parent_run(client: "MlflowClient", injected: str | None, key: str | None) -> "Run | None":
    """Return the run that a step's run belongs to: the injected one, else the pipeline's; the caller holds the lock."""
    if injected:
        return client.get_run(injected)
    return open_pipeline_run(client, key) if key else None


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


def pipeline_key() -> str | None:
    """Return the key that the environment gives, if any."""
    return os.environ.get("GRAFT_PIPELINE_RUN") or os.environ.get("DVC_EXP_NAME") or None


def driven_by_dvc() -> bool:
    """Return whether `dvc exp run` starts the steps, of which none knows that it is the last."""
    return "DVC_EXP_NAME" in os.environ and not os.environ.get("GRAFT_PIPELINE_RUN")
