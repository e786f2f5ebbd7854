"""Runs whose process is gone: killed without a chance to say so, they would be RUNNING for ever.

Every run is tagged with the process that owns it. Whoever opens the store next ends the runs of this machine that no
process owns any more, as KILLED.
"""

import socket
from typing import TYPE_CHECKING

from graft.core.owners import is_alive

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

PROCESS_TAG = "graft.process"
PIPELINE_PROCESS = "GRAFT_PIPELINE_PROCESS"
"""Environment variable: the owner of a pipeline's run, which outlives each of its steps and ends the run."""


def end_abandoned_runs(client: "MlflowClient", experiment: str) -> list[str]:
    """End the runs of this machine's dead processes in an experiment, steps before pipelines; return their ids."""
    host = socket.gethostname().replace("'", "")
    found = client.search_runs(
        [experiment],
        filter_string=f"attributes.status = 'RUNNING' and tags.`{PROCESS_TAG}` LIKE '{host} %'",
        order_by=["attributes.start_time DESC"],
        max_results=500,
    )
    dead = [run.info.run_id for run in found if not is_alive(run.data.tags[PROCESS_TAG])]
    for run_id in dead:
        client.set_tag(run_id, "error", "the process was killed")
        client.set_terminated(run_id, "KILLED")
    return dead
