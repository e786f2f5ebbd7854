"""Steps that a pipeline did not run, because nothing they depend on had changed: what its MLflow run says about them.

The run gets the parameters, the datasets and the summary metrics that each such step had recorded on the run of its own
pipeline, and a tag `graft.reused.<step>` with the id of the step's run. It has no child run for the step.
"""

import os
from typing import TYPE_CHECKING

from graft.runs.live_log import DATA_TAG, STEP_TAG
from graft.runs.mlflow_store import locked, open_client, tracking_uri
from graft.runs.pipeline_runs import find_pipeline_run, open_pipeline_run

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

REUSED_TAG = "graft.reused."


def place() -> str:
    """Return where steps are recorded now: a result can be reused only where its own run is known."""
    names = ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
    return " ".join([tracking_uri(), *(os.environ.get(name, "") for name in names)])


def record(key: str, step: str, origin: str) -> bool:
    """Record on the pipeline run with key `key` that the results of `step` are those of the pipeline run `origin`.

    Returns:
        False, with nothing recorded, if MLflow no longer has the run in which the step ran.

    Raises:
        GraftError: if MLflow cannot be used.
    """
    from mlflow.entities import Metric, Param

    uri = tracking_uri()
    client = open_client(uri)
    old = find_pipeline_run(client, origin)
    ran = _step_run(client, old, step) if old else None
    if old is None or ran is None:
        return False
    with locked(uri):
        new = open_pipeline_run(client, key)
    known, own = new.data.params, old.data.params
    params = [Param(name, text) for name, text in own.items() if name.startswith(f"{step}.") and name not in known]
    shared = ran.data.metrics.keys() & old.data.metrics.keys()
    metrics = [Metric(name, old.data.metrics[name], new.info.start_time, 0) for name in sorted(shared)]
    client.log_batch(new.info.run_id, metrics=metrics, params=params)
    if ran.inputs and ran.inputs.dataset_inputs:
        client.log_inputs(new.info.run_id, ran.inputs.dataset_inputs)
        client.set_tag(new.info.run_id, DATA_TAG, ran.data.tags[DATA_TAG])
    client.set_tag(new.info.run_id, REUSED_TAG + step, ran.info.run_id)
    return True


def _step_run(client: "MlflowClient", pipeline: "Run", step: str) -> "Run | None":
    found = client.search_runs(
        [pipeline.info.experiment_id],
        filter_string=f"tags.mlflow.parentRunId = '{pipeline.info.run_id}' and tags.`{STEP_TAG}` = '{step}' "
        "and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return found[0] if found else None
