"""How the run of a pipeline ended, read from MLflow once no step runs any more."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from graft.core.credentials import mask_credentials
from graft.core.errors import GraftError
from graft.runs.live_log import ERROR_TAG, NOTE_TAG, STEP_TAG
from graft.runs.mlflow_store import describe_failure, open_client, tracking_uri, without_password
from graft.runs.pipeline_runs import find_pipeline_run

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

PARENT_TAG = "mlflow.parentRunId"
SUCCEEDED = "SUCCEEDED"
"""Kubeflow's name for the state of a run all of whose tasks succeeded."""


def close_run(key: str, state: str, error: str = "") -> str:
    """End the run of a pipeline in MLflow if a task died before it could, and describe how the run ended.

    Args:
        key: of the pipeline's run, see `graft.runs.tracking`.
        state: as the orchestrator knows it: `SUCCEEDED`, `FAILED` or `CANCELLED`.
        error: what the orchestrator knows of the cause.

    Returns:
        A page as Markdown: state and cause, each step with its time, what the run found, where MLflow shows it.
    """
    error = mask_credentials(error)
    try:
        client = open_client()
        run = find_pipeline_run(client, key)
        if run is None:
            return _page(state, [f"No step has reached MLflow at {_place()}.", error])
        steps = _steps(client, run)
        if run.info.status == "RUNNING" and state != SUCCEEDED:
            _end(client, [step for step in steps if step.info.status == "RUNNING"], state)
            _end(client, [run], state)
        return _page(state, [_cause(run, steps) or error, _table(steps), run.data.tags.get(NOTE_TAG, ""), _link(run)])
    except GraftError as fault:
        return _page(state, [error, str(fault)])
    except Exception as fault:  # of MLflow, its database, the network: how the run ended is known without them
        return _page(state, [error, f"MLflow at {_place()} {describe_failure(fault)}."])


def _steps(client: "MlflowClient", run: "Run") -> list["Run"]:
    return list(
        client.search_runs(
            [run.info.experiment_id],
            filter_string=f"tags.`{PARENT_TAG}` = '{run.info.run_id}'",
            order_by=["attributes.start_time ASC"],
        )
    )


def _end(client: "MlflowClient", runs: Iterable["Run"], state: str) -> None:
    for run in runs:
        client.set_terminated(run.info.run_id, "KILLED" if state == "CANCELLED" else "FAILED")


def _cause(run: "Run", steps: Iterable["Run"]) -> str:
    """Return the line that the failed step wrote, as text that Markdown shows as it is."""
    own = [f"{step.data.tags[STEP_TAG]}: {step.data.tags[ERROR_TAG]}" for step in steps if ERROR_TAG in step.data.tags]
    line = run.data.tags.get(ERROR_TAG) or (own[-1] if own else "")
    return f"    {line}" if line else ""


def _table(steps: Iterable["Run"]) -> str:
    rows = []
    for step in steps:
        seconds = step.data.metrics.get("duration_seconds")
        rows.append(
            f"| {step.data.tags.get(STEP_TAG, step.info.run_name)} | {step.info.status.lower()} "
            f"| {'' if seconds is None else f'{seconds:.0f} s'} |"
        )
    return "\n".join(["| step | state | time |", "|---|---|---|", *rows]) if rows else ""


def _link(run: "Run") -> str:
    uri = without_password(tracking_uri()).rstrip("/")
    if not uri.startswith(("http://", "https://")):
        return f"MLflow run {run.info.run_id}"
    return f"[MLflow run]({uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id})"


def _place() -> str:
    return without_password(tracking_uri())


def _page(state: str, parts: Iterable[str]) -> str:
    return "\n\n".join([f"# {state.capitalize()}", *filter(None, parts)]) + "\n"
