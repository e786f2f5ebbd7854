"""MLflow that is gone, full or refusing costs no work, and learns everything later."""

import os
import sqlite3
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import OperationalError

from graft.core.errors import GraftError
from graft.core.owners import this_process
from graft.runs import pipeline_runs, tracking, undelivered
from graft.runs.abandoned import PIPELINE_PROCESS
from graft.runs.mlflow_store import open_client, tracking_uri
from tests.support.recorded_step import recorded, run_step


@pytest.fixture(autouse=True)
def place(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAFT_UNDELIVERED", str(tmp_path / "undelivered"))
    monkeypatch.setenv("GRAFT_PIPELINE_RUN", "key")
    return tmp_path / "undelivered"


REQUESTS = ("log_metric", "log_batch", "set_tag", "log_artifact", "log_artifacts", "log_inputs", "set_terminated")


class Outage:
    """Makes every request of a client fail from the n-th on, as a server does that went away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int, error: Exception) -> None:
        self.left, self.error, self.over = after, error, False
        for name in (
            "log_metric",
            "log_batch",
            "set_tag",
            "log_artifact",
            "log_artifacts",
            "log_inputs",
            "set_terminated",
        ):
            monkeypatch.setattr(MlflowClient, name, self.failing(getattr(MlflowClient, name)))

    def failing(self, plain):  # type: ignore[no-untyped-def]
        def request(*args, **kwargs):  # type: ignore[no-untyped-def]
            self.left -= 1
            if self.left < 0 and not self.over:
                raise self.error
            return plain(*args, **kwargs)

        return request


ERRORS = [
    ConnectionError("Max retries exceeded"),
    MlflowException("API request failed with status 500"),
    PermissionError("403: the token has expired"),
    OperationalError("INSERT INTO metrics", {}, sqlite3.OperationalError("database is locked")),
]


@pytest.mark.parametrize(
    ("after", "error"), [*((n, ERRORS[0]) for n in (0, 1, 4, 6, 11, 13)), *((2, error) for error in ERRORS[1:])]
)
def test_an_outage_at_any_request_loses_neither_work_nor_record(
    tmp_path: Path,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
    error: Exception,
    capsys: pytest.CaptureFixture[str],
) -> None:
    outage = Outage(monkeypatch, after, error)
    run_step(tmp_path)
    assert (tmp_path / "model" / "weights.txt").read_text() == "learnt", "the work is there"
    assert "the record of this step is kept in" in capsys.readouterr().err
    outage.over = True
    assert undelivered.deliver(tracking_uri()) == (1, [])
    assert [path.name for path in place.iterdir()] == [".lock"]
    found = recorded(open_client())
    assert found["status"] == ("FINISHED", "RUNNING")
    assert found["metrics"] == ({"loss": 0.5}, {"val.accuracy": 0.9})
    assert found["params"][0]["chosen.l2"] == found["params"][1]["learn.chosen.l2"] == "0.1"  # type: ignore[index]
    assert found["files"] == ["model", "model/weights.txt", "weights.txt"]
    assert found["tags"] == ("blocks.5", "d" * 64, "d" * 64)
    assert found["data"] == ["digits"]
    assert found["described"] == ("digits · 0.900", "right on most")
    assert found["of all"] == ["weights.txt"]


def test_a_step_goes_on_without_a_server_that_answers_and_the_next_one_tells_it(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(uri: str | None = None) -> MlflowClient:
        raise GraftError(f"MLflow at {uri} does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(tracking, "open_client", gone)
        run_step(tmp_path)
    assert (tmp_path / "model" / "weights.txt").is_file()
    assert len(list(place.iterdir())) == 1
    with tracking.step_run("register_model", {}):
        pass
    assert recorded(open_client())["metrics"] == ({"loss": 0.5}, {"val.accuracy": 0.9})
    assert [path.name for path in place.iterdir()] == [".lock"]


def test_a_pipeline_ends_with_the_process_that_runs_it_or_when_mlflow_is_back(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PIPELINE_PROCESS, this_process())
    with tracking.step_run("register_model", {}) as log:
        tracking.finish_pipeline()
    client = open_client()
    assert client.get_run(log.pipeline_run_id).info.status == "RUNNING", "its results are not in place yet"
    outage = Outage(monkeypatch, 0, ERRORS[0])
    undelivered.end_pipeline("key", 2.0)
    assert "the next run or graft sync tells it that this run has ended" in capsys.readouterr().err
    outage.over = True
    assert undelivered.deliver(tracking_uri()) == (1, [])
    assert client.get_run(log.pipeline_run_id).info.status == "FINISHED"


def test_the_first_step_fails_at_once_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with pytest.raises(GraftError, match=r"127\.0\.0\.1:1 does not answer"), tracking.step_run("a", {}):
        pass


def test_a_failure_during_an_outage_is_the_steps_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outage = Outage(monkeypatch, 0, ERRORS[0])
    with pytest.raises(GraftError, match="no images"), tracking.step_run("learn", {}):
        raise GraftError("no images")
    outage.over = True
    undelivered.deliver(tracking_uri())
    client = open_client()
    parent = client.get_run(str(pipeline_runs.pipeline_run_id("key")))
    assert (parent.info.status, parent.data.tags["error"]) == ("FAILED", "learn: no images")


def test_what_cannot_be_delivered_stays_and_says_why(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage = Outage(monkeypatch, 0, ERRORS[2])
    run_step(tmp_path)
    for _ in range(2):
        delivered, problems = undelivered.deliver(tracking_uri())
        assert delivered == 0
        assert len(problems) == 1
        assert "the token has expired" in problems[0]
    (place / "no-record").mkdir()
    outage.over = True
    assert undelivered.deliver("sqlite:///another.db") == (0, [])
    assert undelivered.deliver(tracking_uri()) == (1, [])


def test_an_interrupted_delivery_goes_on_with_the_same_run(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(uri: str | None = None) -> MlflowClient:
        raise GraftError("no")

    with monkeypatch.context() as patch:
        patch.setattr(tracking, "open_client", gone)
        run_step(tmp_path)
    with monkeypatch.context() as patch:

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(undelivered, "end_run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            undelivered.deliver(tracking_uri())
    assert undelivered.deliver(tracking_uri()) == (1, [])
    assert recorded(open_client())["status"] == ("FINISHED", "RUNNING")  # and there is one run, not two


def test_what_a_killed_step_began_to_keep_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_UNDELIVERED", str(tmp_path / "kept"))
    record = undelivered.Record(uri="sqlite:///x.db", step="learn", key=None, injected=None, started=0, tags={})
    (tmp_path / "numbers.txt").write_text("1")
    child = os.fork()
    if child == 0:
        undelivered.Outbox(record).keep_artifact(tmp_path / "numbers.txt", None, False)
        os._exit(9)
    os.waitpid(child, 0)
    undelivered.Outbox(record).keep_artifact(tmp_path / "numbers.txt", None, False)  # of a step that runs
    assert undelivered.deliver("sqlite:///x.db") == (0, [])
    assert len([path for path in (tmp_path / "kept").iterdir() if path.is_dir()]) == 1
