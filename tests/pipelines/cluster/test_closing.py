"""What a cluster adds to a graph: a task that ends every run, and the service of a new champion behind the gate."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from mlflow.tracking import MlflowClient

from graft.core.atomic import write_json
from graft.core.errors import GraftError
from graft.runs import tracking
from graft.runs.pipeline_runs import find_pipeline_run, pipeline_run_id
from graft.runs.run_outcome import close_run
from graft.serving.registry import Registry
from pipelines.batch import STEPS, batch
from pipelines.cluster import service_manifest
from pipelines.cluster.platform import with_profile
from pipelines.cluster.profile import Profile
from pipelines.cluster.service_manifest import serve
from pipelines.local.progress import PlainLines
from pipelines.local.runner import run_locally
from tests.pipelines.cluster.test_platform import IMAGES, Compiled
from tests.serving.test_kserve import SCHEMA
from tests.support.compiled_graph import steps_of
from tests.support.trainer_server import serving

KEY = "run-7"


def compiled(folder: Path, **more: Any) -> Compiled:
    return Compiled(folder / "p.yaml", Profile.model_validate({"images": IMAGES} | more))


def test_a_last_task_runs_whatever_happened_before(tmp_path: Path) -> None:
    root = compiled(tmp_path).spec.root.dag.tasks
    assert set(root) == {"exit-handler-1", "report-run"}
    strategy = root["report-run"].trigger_policy.strategy
    assert strategy == type(root["report-run"].trigger_policy).ALL_UPSTREAM_TASKS_COMPLETED
    assert not root["report-run"].caching_options.enable_cache


def test_only_a_champion_passes_the_gate(tmp_path: Path) -> None:
    spec = compiled(tmp_path, serve={"min_replicas": 0}).spec
    gate = steps_of(spec)["condition-2"]
    assert (
        gate.trigger_policy.condition
        == "inputs.parameter_values['pipelinechannel--register-model-alias'] == 'champion'"
    )
    behind = spec.components[gate.component_ref.name].dag.tasks
    assert set(behind) == {"serve-champion"}
    assert (
        behind["serve-champion"].inputs.parameters["settings"].runtime_value.constant.struct_value["min_replicas"] == 0
    )
    assert set(steps_of(compiled(tmp_path).spec)) == set(steps_of(spec)) - {"condition-2"}


@pytest.mark.usefixtures("store")
def test_the_last_task_of_a_failed_run_names_the_cause(tmp_path: Path) -> None:
    pipeline = with_profile(batch, Profile.model_validate({"images": IMAGES}))
    with pytest.raises(GraftError, match="/nowhere: no such file or folder"):
        run_locally(
            pipeline,
            {"get_data": {"source": "/nowhere"}},
            [*STEPS, "report_run"],
            tmp_path / "steps",
            tmp_path / "run.log",
            PlainLines(print),
        )
    (report,) = (tmp_path / "steps").glob("*/report-run/report")
    assert report.read_text().startswith("# Failed\n")


@pytest.fixture
def run(store: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("GRAFT_PIPELINE_RUN", KEY)
    return MlflowClient()


def test_a_run_whose_step_failed(run: MlflowClient) -> None:
    with tracking.step_run("get_data", {}):
        pass
    with pytest.raises(GraftError), tracking.step_run("validate_data", {}):
        raise GraftError("3 of 9 images are damaged")
    page = close_run(KEY, "FAILED", "task validate-data failed")
    assert page.startswith("# Failed\n\n    validate_data: 3 of 9 images are damaged\n")
    assert "| get_data | finished | 0 s |\n| validate_data | failed | 0 s |" in page
    assert f"MLflow run {pipeline_run_id(KEY)}" in page


@pytest.mark.parametrize(("state", "status"), [("FAILED", "FAILED"), ("CANCELLED", "KILLED")])
def test_a_run_whose_pod_was_lost_is_ended(run: MlflowClient, state: str, status: str) -> None:
    lost = tracking.step_run("fine_tune", {})
    log = lost.__enter__()
    page = close_run(KEY, state, "OOMKilled")
    assert page.startswith(f"# {state.capitalize()}\n\nOOMKilled\n")
    parent = find_pipeline_run(run, KEY)
    assert parent is not None
    assert {parent.info.status, run.get_run(log.run_id).info.status} == {status}


def test_a_run_that_succeeded_shows_what_it_found(run: MlflowClient) -> None:
    with tracking.step_run("register_model", {}) as log:
        log.describe("digits", "models:/digits/3 is champion")
        tracking.finish_pipeline()
    page = close_run(KEY, "SUCCEEDED")
    assert page.startswith("# Succeeded\n\n| step")
    assert "models:/digits/3 is champion" in page
    parent = find_pipeline_run(run, KEY)
    assert parent is not None
    assert parent.info.status == "FINISHED"


def test_the_state_is_told_when_mlflow_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    page = close_run(KEY, "FAILED", "no space left")
    assert page.startswith("# Failed\n\nno space left\n")
    assert "127.0.0.1:9" in page


@pytest.fixture
def registration(store: Path, tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    (model / "MLmodel").write_text("flavors: {}\n")
    registry = Registry.open("insects")
    registry.promote(registry.register(model, {}).number)
    write_json(tmp_path / "registration" / "registration.json", {"name": "insects", "version": 1})
    return tmp_path / "registration"


def test_a_model_that_a_cluster_cannot_fetch_is_one_line(registration: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"serve_champion: the files of models:/insects/1 are at .*object storage"):
        serve(registration, tmp_path / "service.yaml", {})


def test_a_champion_is_applied_with_the_settings(
    registration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The store of these tests is a folder; where MLflow keeps its artifacts is all that is set here.
    monkeypatch.setattr(service_manifest, "storage_uri", lambda registry, version: "s3://models/insects/1")
    settings = {"apply": True, "service_account": "models", "min_replicas": 0, "max_replicas": 2.0, "memory": "4Gi"}
    with serving(tmp_path / "cluster") as cluster:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(cluster.port))
        serve(registration, tmp_path / "service.yaml", settings, account=cluster.account)
        applied = cluster.services["insects"]
    jsonschema.validate(applied, SCHEMA)
    assert applied == yaml.safe_load((tmp_path / "service.yaml").read_text())
    predictor = applied["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"], predictor["serviceAccountName"]) == (0, 2, "models")
    assert predictor["model"]["storageUri"] == "s3://models/insects/1"
