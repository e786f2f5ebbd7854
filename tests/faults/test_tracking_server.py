"""A real MLflow server that becomes slow, fails, refuses or goes away at any request of a step: no work is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from graft.runs import undelivered
from graft.runs.mlflow_store import open_client
from tests.faults.conftest import Count
from tests.support.faulty_proxy import Fault, FaultyProxy, faulty_proxy
from tests.support.mlflow_server import mlflow_server
from tests.support.recorded_step import recorded, run_step


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyProxy]:
    folder = tmp_path_factory.mktemp("mlflow")
    with mlflow_server(folder, str(folder / "artifacts"), {}, users=False) as server, faulty_proxy(server) as found:
        yield found


@pytest.fixture(autouse=True)
def through_the_proxy(proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.address)
    monkeypatch.setenv("GRAFT_UNDELIVERED", str(tmp_path / "undelivered"))
    for name in ("FACTOR", "JITTER"):  # it tries as often, without the waiting
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_BACKOFF_{name}", "0")


def step_with(proxy: FaultyProxy, folder: Path, key: str, patch: pytest.MonkeyPatch) -> dict[str, object]:
    """Run a step of a pipeline, end the fault, deliver what was kept, and return what MLflow knows then."""
    patch.setenv("GRAFT_PIPELINE_RUN", key)
    folder.mkdir()
    run_step(folder)
    assert (folder / "model" / "weights.txt").read_text() == "learnt"
    proxy.passes_all()
    delivered, problems = undelivered.deliver(proxy.address)
    assert not problems
    return {**recorded(open_client(), key), "delivered": delivered}


@pytest.mark.parametrize(
    ("fault", "first", "told"), [("gone", 0, "goes away"), ("500", 2, "answers 500"), ("401", 4, "answers 401")]
)
def test_a_server_that_fails_at_any_request_loses_neither_work_nor_record(
    proxy: FaultyProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    first: int,
    told: str,
    count: Count,
    scale: int,
) -> None:
    """Of the requests every eighth one in the short form, and every one in the long form."""
    proxy.passes_all()
    monkeypatch.setenv("GRAFT_PIPELINE_RUN", f"whole {fault}")
    (tmp_path / "whole").mkdir()
    run_step(tmp_path / "whole")
    requests = range(proxy.requests) if scale > 1 else range(first, proxy.requests, 8)
    assert len(requests) > 2
    whole, survived = recorded(open_client(), f"whole {fault}"), 0
    for after in requests:
        proxy.fails(after, fault)
        found = step_with(proxy, tmp_path / str(after), f"{fault} {after}", monkeypatch)
        print(after, found.pop("delivered"), found == whole)
        survived += found == whole
    count(f"MLflow {told} at any request", len(requests), survived)
    assert not [one for one in (tmp_path / "undelivered").iterdir() if one.name != ".lock"]


@pytest.mark.parametrize("after", [0, pytest.param(6, marks=pytest.mark.slow)])
def test_an_answer_after_ten_seconds_is_an_answer(
    proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, count: Count
) -> None:
    proxy.fails(after, "slow", seconds=10.5)
    found = step_with(proxy, tmp_path / "slow", f"slow {after}", monkeypatch)
    assert proxy.requests
    count(
        "MLflow answers after ten seconds",
        1,
        int(found["delivered"] == 0 and found["status"] == ("FINISHED", "RUNNING")),
    )
