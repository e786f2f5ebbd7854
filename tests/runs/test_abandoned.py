import socket
from pathlib import Path

import psutil
import pytest

from graft.core.owners import this_process
from graft.runs import tracking
from graft.runs.abandoned import PIPELINE_PROCESS, PROCESS_TAG, end_abandoned_runs
from graft.runs.mlflow_store import experiment_id, open_client, tracking_uri


def dead_process() -> str:
    """Return a process that had this process's number before."""
    return f"{this_process()}0"


def test_runs_without_an_owner_are_killed_and_the_others_go_on(store: Path) -> None:
    client = open_client()
    experiment = experiment_id(client, tracking_uri())
    owners = {
        "lost": dead_process(),
        "never": f"{socket.gethostname()} {max(psutil.pids()) + 100_000} 1",
        "running": this_process(),
        "elsewhere": "another-machine 1 1",
    }
    ids = {name: client.create_run(experiment, tags={PROCESS_TAG: owner}).info.run_id for name, owner in owners.items()}
    ids["untold"] = client.create_run(experiment).info.run_id
    assert set(end_abandoned_runs(client, experiment)) == {ids["lost"], ids["never"]}
    status = {name: client.get_run(run_id).info.status for name, run_id in ids.items()}
    expected = dict.fromkeys(ids, "RUNNING") | {"lost": "KILLED", "never": "KILLED"}
    assert status == expected
    assert client.get_run(ids["lost"]).data.tags["error"] == "the process was killed"


def test_the_next_step_ends_what_a_killed_pipeline_left(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = open_client()
    monkeypatch.setenv("GRAFT_PIPELINE_RUN", "first")
    monkeypatch.setenv(PIPELINE_PROCESS, dead_process())
    with tracking.step_run("get_data", {}) as log:
        pass
    assert client.get_run(log.pipeline_run_id).info.status == "RUNNING"
    monkeypatch.setenv("GRAFT_PIPELINE_RUN", "second")
    monkeypatch.setenv(PIPELINE_PROCESS, this_process())
    with tracking.step_run("get_data", {}) as later:
        pass
    assert client.get_run(log.pipeline_run_id).info.status == "KILLED"
    assert client.get_run(later.pipeline_run_id).info.status == "RUNNING"
