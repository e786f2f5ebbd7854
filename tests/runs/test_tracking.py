import multiprocessing
import os
import re
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from graft.core.errors import GraftError
from graft.runs import pipeline_runs, tracking
from graft.runs.mlflow_store import open_client
from graft.runs.run_log import Log

PARAMS = {"l2": 0.1, "taps": ["a", "b"], "head": {"name": "linear"}}


@pytest.fixture
def client(store: Path) -> MlflowClient:
    return open_client()


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> str:
    key = pipeline_runs.new_pipeline_run_key()
    monkeypatch.setenv("GRAFT_PIPELINE_RUN", key)
    monkeypatch.setenv("GRAFT_RUN_NAME", "digits")
    return key


def test_a_step_alone_is_one_finished_run(client: MlflowClient, tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / "curve.txt").write_text("curve")
    with tracking.step_run("train_head", PARAMS) as log:
        record: Log = log
        record.metric("loss", 2.0, step=0)
        record.metric("loss", 1.0, step=1)
        record.params({"chosen": {"l2": 0.5}})
        record.tag("depth", "block5")
        record.artifact(folder, "figures")
        record.artifact(folder / "curve.txt")
        record.summary({"test.accuracy": 0.9})
    run = client.get_run(log.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "train_head"
    expected = {"l2": "0.1", "taps": "['a', 'b']", "head.name": "linear", "chosen.l2": "0.5"}
    assert run.data.params == expected
    assert run.data.metrics["loss"] == 1.0
    assert run.data.metrics["test.accuracy"] == 0.9
    assert run.data.metrics["duration_seconds"] > 0
    assert [point.value for point in client.get_metric_history(log.run_id, "loss")] == [2.0, 1.0]
    assert run.data.tags["depth"] == "block5"
    assert run.data.tags["env.python"].startswith("3.")
    assert run.data.tags["env.torch"]
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", run.data.tags["mlflow.source.git.commit"])
    kept = Path(run.info.artifact_uri.removeprefix("file://"))
    assert (kept / "figures" / "curve.txt").read_text() == "curve"
    assert (kept / "curve.txt").is_file()
    assert kept.is_relative_to(tmp_path / "mlruns" / "artifacts")


def test_steps_of_one_pipeline_share_a_parent(client: MlflowClient, pipeline: str) -> None:
    with tracking.step_run("train_head", PARAMS) as first:
        first.summary({"val.accuracy": 0.8})
    with tracking.step_run("fine_tune", {"enabled": True}) as second:
        pass
    assert first.pipeline_run_id == second.pipeline_run_id == pipeline_runs.pipeline_run_id(pipeline)
    parent = client.get_run(first.pipeline_run_id)
    assert parent.info.run_name == "digits"
    assert parent.info.status == "RUNNING"
    assert parent.data.metrics == {"val.accuracy": 0.8}
    assert parent.data.params["train_head.head.name"] == "linear"
    assert parent.data.params["fine_tune.enabled"] == "True"
    assert client.get_run(second.run_id).data.tags["mlflow.parentRunId"] == first.pipeline_run_id


def test_a_pipeline_is_called_by_what_it_led_to(
    client: MlflowClient, pipeline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "report.html"
    page.write_text("a page")

    def described() -> tuple[str, str, list[str]]:
        with tracking.step_run("register_model", {}) as log:
            log.artifact(page, shared=True)
            log.describe("digits · lite0 · 0.970", "**right** on most")
        run = client.get_run(log.pipeline_run_id)
        files = [file.path for file in client.list_artifacts(run.info.run_id)]
        return run.info.run_name, run.data.tags["mlflow.note.content"], files

    assert described() == ("digits", "**right** on most", ["report.html"])  # the user's name stays
    monkeypatch.delenv("GRAFT_RUN_NAME")
    monkeypatch.setenv("GRAFT_PIPELINE_RUN", pipeline_runs.new_pipeline_run_key())
    assert described() == ("digits · lite0 · 0.970", "**right** on most", ["report.html"])
    injected = client.create_run("0", run_name="of Kubeflow")
    monkeypatch.setenv("MLFLOW_RUN_ID", injected.info.run_id)
    assert described()[0] == "of Kubeflow"


def test_a_new_experiment_is_one_that_trains_models(client: MlflowClient) -> None:
    with tracking.step_run("get_data", {}) as log:
        pass
    tags = client.get_experiment(log.experiment_id).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"


def test_the_last_step_finishes_the_pipeline(client: MlflowClient, pipeline: str) -> None:
    with tracking.step_run("register_model", {}) as log:
        tracking.finish_pipeline()
        assert client.get_run(log.pipeline_run_id).info.status == "RUNNING"
    assert client.get_run(log.pipeline_run_id).info.status == "FINISHED"


def test_end_pipeline_run_leaves_a_failed_one_failed(client: MlflowClient, pipeline: str) -> None:
    with tracking.step_run("get_data", {}) as log:
        pass
    pipeline_runs.end_pipeline_run(pipeline)
    assert client.get_run(log.pipeline_run_id).info.status == "FINISHED"
    with pytest.raises(ValueError, match="no"), tracking.step_run("get_data", {}):
        raise ValueError("no")
    pipeline_runs.end_pipeline_run(pipeline)
    assert client.get_run(log.pipeline_run_id).info.status == "FAILED"
    pipeline_runs.end_pipeline_run("no such key")


def test_a_models_parameters_are_the_same_before_and_after_the_review(client: MlflowClient, pipeline: str) -> None:
    digests = []
    for step in ("train_head", "review_features", "fine_tune"):
        with tracking.step_run(step, PARAMS):
            pass
        with tracking.step_run("register_model", {}):
            digests.append(tracking.provenance()["params.digest"])
    assert digests[0] == digests[1] != digests[2]


def test_a_review_that_ends_last_leaves_the_pipeline_finished(client: MlflowClient, pipeline: str) -> None:
    with tracking.step_run("register_model", {}) as log:
        tracking.finish_pipeline()
    with tracking.step_run("review_features", {}):
        pass
    assert client.get_run(log.pipeline_run_id).info.status == "FINISHED"
    with pytest.raises(GraftError), tracking.step_run("review_features", {}):
        raise GraftError("no head")
    assert client.get_run(log.pipeline_run_id).info.status == "FAILED"


def test_a_failed_step_marks_both_runs_with_its_first_line(client: MlflowClient, pipeline: str) -> None:
    with pytest.raises(ValueError, match="truncated"), tracking.step_run("validate_data", {}) as log:
        raise ValueError("a.jpg: truncated\nmore")
    run, parent = client.get_run(log.run_id), client.get_run(log.pipeline_run_id)
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", "a.jpg: truncated")
    assert (parent.info.status, parent.data.tags["error"]) == ("FAILED", "validate_data: a.jpg: truncated")


def test_a_pipeline_tried_again_to_its_end_is_finished(client: MlflowClient, pipeline: str) -> None:
    with pytest.raises(GraftError), tracking.step_run("register_model", {"tolerance": 1}) as failed:
        raise GraftError("smoke prediction differs")
    with tracking.step_run("register_model", {"tolerance": 2}):
        tracking.finish_pipeline()
    parent = client.get_run(failed.pipeline_run_id)
    assert parent.info.status == "FINISHED"
    assert "error" not in parent.data.tags
    assert parent.data.params["register_model.tolerance"] == "1"  # written once


def test_an_interrupted_step_is_killed(client: MlflowClient, pipeline: str) -> None:
    with pytest.raises(KeyboardInterrupt), tracking.step_run("fine_tune", {}) as log:
        raise KeyboardInterrupt
    assert client.get_run(log.run_id).info.status == "KILLED"
    assert client.get_run(log.pipeline_run_id).info.status == "KILLED"


def test_an_injected_run_is_the_parent_and_is_not_ended(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = client.create_experiment("kubeflow")
    injected = client.create_run(experiment, run_name="kfp").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", injected)
    monkeypatch.setenv("GRAFT_PIPELINE_RUN", "another")
    with tracking.step_run("register_model", {}) as log:
        assert "MLFLOW_RUN_ID" not in os.environ
        tracking.finish_pipeline()
    assert os.environ["MLFLOW_RUN_ID"] == injected
    assert log.pipeline_run_id == injected
    assert client.get_run(log.run_id).info.experiment_id == experiment
    assert client.get_run(injected).info.status == "RUNNING"


def test_dvc_experiment_is_the_pipeline(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "lusty-fish")
    with tracking.step_run("get_data", {}) as log:
        pass
    parent = client.get_run(log.pipeline_run_id)
    assert parent.info.run_name == "lusty-fish"
    # An experiment may have one step, and no step knows that it is the last.
    assert parent.info.status == "FINISHED"
    with tracking.step_run("validate_data", {}) as second:
        assert second.pipeline_run_id == log.pipeline_run_id
        assert client.get_run(log.pipeline_run_id).info.status == "RUNNING"
    ended = client.get_run(log.pipeline_run_id).info
    assert ended.status == "FINISHED"
    assert ended.end_time >= client.get_run(second.run_id).info.start_time


def test_the_experiment_is_the_users(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "flowers")
    with tracking.step_run("get_data", {}) as log:
        pass
    assert client.get_experiment(log.experiment_id).name == "flowers"


def test_a_dataset_is_an_input_of_both_runs(client: MlflowClient, pipeline: str) -> None:
    digest = "ab" * 32
    with tracking.step_run("validate_data", {}) as log:
        log.dataset("digits", digest, "dvc://data/digits", {"train": 1000, "test": 500}, "training")
    for run_id in (log.run_id, log.pipeline_run_id):
        run = client.get_run(run_id)
        (entry,) = run.inputs.dataset_inputs
        assert entry.dataset.name == "digits"
        assert digest.startswith(entry.dataset.digest)
        assert '"train": 1000' in entry.dataset.profile
        assert run.data.tags["data.digest"] == digest


def test_a_class_may_have_any_name(client: MlflowClient) -> None:
    with tracking.step_run("evaluate", {}) as log:
        log.metric("recall/café (50%)", 1.0)
        log.metric("x" * 400, 1.0)
    assert client.get_run(log.run_id).data.metrics["recall/café _50__"] == 1.0


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("http://user:secret@127.0.0.1:9", r"MLflow at http://127\.0\.0\.1:9 does not answer; .*MLFLOW_TRACKING_URI"),
        ("file:///tmp/somewhere", r"folder of files.*sqlite:///"),
        ("sqlite:////proc/none/mlflow.db", r"/proc/none: cannot keep runs here"),
    ],
)
def test_an_unusable_store_is_one_clear_line(uri: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(GraftError, match=line) as caught, tracking.step_run("get_data", {}):
        pass
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def _log_much(number: int) -> None:
    with tracking.step_run(f"step_{number}", {"number": number}) as log:
        for epoch in range(50):
            log.metric("loss", 1 / (epoch + 1), step=epoch)
        log.summary({f"loss_{number}": 0.0})


@pytest.mark.slow
def test_four_processes_open_an_empty_database(pipeline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_log_much, args=(number,)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    client = open_client()
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    steps = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(parents) == 1
    assert {run.data.tags["mlflow.parentRunId"] for run in steps} == {parents[0].info.run_id}
    assert len(parents[0].data.metrics) == 4
    for run in steps:
        assert len(client.get_metric_history(run.info.run_id, "loss")) == 50
