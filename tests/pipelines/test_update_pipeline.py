"""The update pipeline: its arguments, its graph for Kubeflow and for DVC, and its commands."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec
from typer.testing import CliRunner

from graft.core.errors import GraftError, ParamsError
from pipelines import updating
from pipelines.cli import app
from pipelines.cluster.compiled import write_pipeline
from pipelines.cluster.profile import Profile
from pipelines.local.occupied import occupied
from pipelines.update import STEPS
from pipelines.update_arguments import UpdateParams, load_update_params
from tests.pipelines.test_graphs import dvc_edges, kfp_edges, step_of
from tests.support.compiled_graph import steps_of
from tests.support.finished_run import NAME, FinishedRun
from tests.support.kubeflow_server import serving
from tests.support.pictures import MakeImages


@pytest.fixture
def in_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)


def spec_of(file: Path) -> PipelineSpec:
    return json_format.ParseDict(next(yaml.safe_load_all(file.read_text())), PipelineSpec())


def test_the_defaults_and_the_command_line(in_root: None) -> None:
    params = load_update_params("update_model.method=lda", "/data/new", "models:/birds/7")
    assert params.get_data.source == "/data/new"
    assert (params.update_model.method, params.update_model.model) == ("lda", "models:/birds/7")
    assert params.validate_data.severity == {"one_class": "ignore"}
    assert "repo" not in params.arguments()["get_data"]
    written = yaml.safe_load(Path("update/params.yaml").read_text())
    assert set(written["update_model"]) == set(type(params.update_model).model_fields)
    assert load_update_params("").update_model == UpdateParams().update_model


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ("update_model.metod=lda", "unknown parameter 'update_model.metod': did you mean 'method'?"),
        ("update_model.method=svm", "update_model.method='svm'"),
        ("train_head.folds=3", "unknown parameter 'train_head'"),
    ],
)
def test_bad_arguments_are_one_clear_line(in_root: None, overrides: str, line: str) -> None:
    with pytest.raises(ParamsError) as error:
        load_update_params(overrides)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_both_graphs_are_equal(root: Path, tmp_path: Path) -> None:
    write_pipeline(tmp_path / "update.yaml", UpdateParams())
    spec = spec_of(tmp_path / "update.yaml")
    stages: dict[str, Any] = yaml.safe_load((root / "update" / "dvc.yaml").read_text())["stages"]
    assert list(stages) == STEPS == list(UpdateParams.model_fields)
    flat = {
        name: {
            "deps": [one.replace("artifacts/update/", "artifacts/") for one in stage["deps"]],
            "outs": [one.replace("artifacts/update/", "artifacts/") for one in stage["outs"]],
        }
        for name, stage in stages.items()
    }
    assert kfp_edges(spec) == dvc_edges(flat)
    for step, stage in stages.items():
        work = step_of(step)
        command = shlex.split(stage["cmd"])
        ports = {port: f"artifacts/update/{port}" for port in [*work.inputs, *work.outputs]}
        ports |= {"metrics": f"artifacts/update/metrics/{step}.json", "params": "update/params.yaml"}
        assert command[:3] == ["python", "-m", f"components.{step}.step"]
        assert dict(zip(command[3::2], command[4::2], strict=True)) == {f"--{name}": to for name, to in ports.items()}
        assert work.section is UpdateParams.model_fields[step].annotation
        component = spec.components[f"comp-{step.replace('_', '-')}"]
        assert set(component.input_definitions.artifacts) == set(work.inputs)


def test_a_model_may_move_so_nothing_is_cached(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "update.yaml", UpdateParams(), profile=Profile.load("k8s"), data_digest="d1")
    tasks = steps_of(spec_of(tmp_path / "update.yaml"))
    assert tasks["get-data"].caching_options.enable_cache
    assert not tasks["update-model"].caching_options.enable_cache
    assert not tasks["register-update"].caching_options.enable_cache
    assert tasks["register-update"].retry_policy.max_retry_count == 0


@pytest.mark.slow
def test_the_commands(tmp_path: Path, in_root: None) -> None:
    out = str(tmp_path / "update.yaml")
    chosen = ["--pipeline", "update", "--data", "/data/new", "--model", "models:/birds/7"]
    compiled = CliRunner().invoke(app, ["compile", *chosen, "--profile", "k8s", "--out", out])
    assert compiled.output == f"{out}: the pipeline for Kubeflow\n"
    with serving() as kubeflow:
        run = CliRunner().invoke(app, ["submit", "--host", kubeflow.url, *chosen])
        assert run.exit_code == 0, run.output
        planned = CliRunner().invoke(app, ["schedule", "--host", kubeflow.url, *chosen, "--cron", "0 0 3 * * *"])
        assert planned.exit_code == 0, planned.output
        assert kubeflow.faults == []
        for kept in (kubeflow.runs[run.output.strip()], kubeflow.schedules[planned.output.strip()]):
            defaults = kept["pipeline_spec"]["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
            assert defaults["update_model"]["defaultValue"]["model"] == "models:/birds/7"
            assert kept["display_name"].startswith("graft-update")


@pytest.mark.slow
def test_make_update_and_history(
    finished_run: FinishedRun, image_folder: MakeImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_root: None
) -> None:
    """From a folder of images through all steps to a version, whose history says what it learnt."""
    database = tmp_path / "mlflow.db"
    database.write_bytes((finished_run.folder / "mlflow.db").read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    images = image_folder({"ant": 60, "bee": 60, "cat": 60, "fly": 60}, size=32)
    model, out = f"models:/{NAME}@champion", tmp_path / "out"
    loose = "update_model.tolerance=0.2 register_update.max_milliseconds=1e6 register_update.class_floor=0"
    command = ["update", "--data", str(images), "--model", model, "--params", loose, "--out", str(out)]
    done = CliRunner().invoke(updating.app, command)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "new: fly" in done.output
    assert "champion    insects version 2" in done.output
    summary = json.loads((out / "summary.json").read_text())
    assert summary["update_model"]["continual"]["acc"]["value"] > 0.85
    assert "Promoted: insects version 2" in (out / "update.html").read_text()
    told = CliRunner().invoke(updating.app, ["history", "--model", model])
    assert "2 experiences" in told.output
    assert "1 " in told.output
    assert "fly" in told.output
    again = CliRunner().invoke(updating.app, ["update", *command[1:]])
    assert "images were learnt before: there is nothing to learn" in str(again.exception)


def test_the_second_of_two_updates_at_once_waits_and_begins_with_what_the_first_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    held, order = threading.Event(), []

    def first() -> None:
        with updating.one_at_a_time("models:/birds@champion"):
            held.set()
            time.sleep(0.3)
            order.append("first")

    other = threading.Thread(target=first)
    other.start()
    held.wait()
    with updating.one_at_a_time("models:/fish@champion"):
        order.append("another model")
    with updating.one_at_a_time("models:/birds@champion"):
        order.append("second")
    other.join()
    assert order == ["another model", "first", "second"]
    assert "another update of models:/birds@champion is running; this one begins" in capsys.readouterr().err


def test_an_output_folder_is_of_one_update_at_a_time(tmp_path: Path) -> None:
    with occupied(tmp_path / "out", tmp_path / "out" / "steps"), pytest.raises(GraftError, match="writes its results"):
        updating.execute(UpdateParams(), tmp_path / "out")


@pytest.mark.slow
def test_dvc_repro_updates_a_model(
    root: Path, finished_run: FinishedRun, image_folder: MakeImages, tmp_path: Path, store: Path
) -> None:
    """The stages run from new images to a version; a second call runs none of them."""
    project = tmp_path / "project"
    for name in ("graft", "components", "expectations", "update"):
        shutil.copytree(root / name, project / name, ignore=shutil.ignore_patterns("__pycache__", "dvc.lock"))
    images = image_folder({"ant": 60, "bee": 60, "cat": 60, "fly": 60}, size=32)
    shutil.copytree(images, project / "data" / "new")
    file = project / "update" / "params.yaml"
    params = yaml.safe_load(file.read_text())
    params["update_model"] |= {"model": str(finished_run.model), "tolerance": 0.2}
    params["register_update"] |= {"name": NAME, "max_milliseconds": 1e6, "class_floor": 0.0}
    file.write_text(yaml.safe_dump(params))
    dvc = [sys.executable, "-m", "dvc"]
    environment = os.environ | {
        "PYTHONPATH": str(project),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    subprocess.run([*dvc, "init", "--no-scm", "--quiet"], cwd=project, env=environment, check=True)
    for ran in (True, False):
        done = subprocess.run(
            [*dvc, "repro", "update/dvc.yaml"],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("Running stage") == (4 if ran else 0)
    found = json.loads((project / "artifacts" / "update" / "metrics" / "register_update.json").read_text())
    assert (found["version"], found["alias"]) == (1, "challenger")
    assert found["reasons"] == ["the update began with a bundle's folder, not with the champion: promote by hand"]
    numbers = json.loads((project / "artifacts" / "update" / "metrics" / "update_model.json").read_text())
    assert numbers["new_classes"] == ["fly"]
