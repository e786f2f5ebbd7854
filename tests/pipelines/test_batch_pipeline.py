"""Batch prediction as a pipeline: its arguments, its compiled form with a profile, and a run on this machine."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec
from typer.testing import CliRunner

from graft.core.errors import ParamsError
from graft.models.fit_abstention import with_abstention
from graft.params.get_data import GetDataParams
from pipelines.batch import STEPS, batch
from pipelines.batch_arguments import CHAMPION, BatchParams, load_batch_params
from pipelines.cli import app
from pipelines.cluster.compiled import write_pipeline
from pipelines.cluster.profile import Profile
from pipelines.local.progress import PlainLines
from pipelines.local.runner import METRICS, run_locally
from tests.support.compiled_graph import steps_of
from tests.support.kubeflow_server import serving
from tests.support.pictures import MakeImages
from tests.support.tiny import bundle_of, evaluated, small_dataset

TRACKED = "get_data.repo=https://git.example/data.git get_data.source=new"


def test_a_folder_of_a_volume_and_the_champion() -> None:
    params = load_batch_params("", "/data/new")
    assert params == BatchParams(get_data=GetDataParams(source="/data/new"), model=CHAMPION)
    assert params.arguments() == {"get_data": {"source": "/data/new"}, "model": CHAMPION}


def test_a_tracked_folder_and_a_version() -> None:
    params = load_batch_params(f"{TRACKED} get_data.rev=v2", model="models:/birds/7")
    assert params.arguments() == {
        "get_data": {"source": "new", "repo": "https://git.example/data.git", "rev": "v2"},
        "model": "models:/birds/7",
    }
    assert load_batch_params("").get_data is None


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("", "new"), "get_data.source='new': a path on this machine"),
        (("get_data.rev=v1", "/new"), "get_data.rev='v1': needs get_data.repo"),
        (("get_data.repo=/r",), "get_data.source is not set"),
        (("get_data.sorce=/new", "/new"), "unknown parameter 'get_data.sorce': did you mean 'source'?"),
        (("train_head.folds=3", "/new"), "'train_head.folds=3': the batch pipeline has no such parameter"),
        (("", "/new", "graft"), "model='graft': expected models:/name@alias"),
        (("", "/new", "models:/graft"), "model='models:/graft': expected models:/name@alias"),
        (("", "/new", "models:/a/1/2"), "model='models:/a/1/2': expected models:/name@alias"),
        (("", "/new", "runs/model"), "the absolute path of a bundle"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments: tuple[str, ...], line: str) -> None:
    with pytest.raises(ParamsError) as error:
        load_batch_params(*arguments)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def documents(file: Path) -> tuple[PipelineSpec, dict[str, Any]]:
    spec, platform = yaml.safe_load_all(file.read_text())
    json_format.ParseDict(platform, PlatformSpec())
    return json_format.ParseDict(spec, PipelineSpec()), platform["platforms"]["kubernetes"]["deploymentSpec"]


def test_a_profile_applies_to_it(tmp_path: Path) -> None:
    profile = Profile.load("k8s")
    write_pipeline(tmp_path / "batch.yaml", load_batch_params(TRACKED), profile=profile, data_digest="d1")
    spec, pods = documents(tmp_path / "batch.yaml")
    assert spec.pipeline_info.name == "graft-batch"
    assert set(steps_of(spec)) == {"get-data", "batch-predict"}
    executors = json_format.MessageToDict(spec.deployment_spec)["executors"]
    answering = executors["exec-batch-predict"]["container"]
    assert executors["exec-get-data"]["container"]["image"] == profile.images.data
    assert answering["image"] == profile.images.torch
    assert answering["resources"]["resourceMemoryLimit"] == profile.steps["batch_predict"].memory_limit
    assert {"name": "MLFLOW_DISABLE_TELEMETRY", "value": "true"} in answering["env"]
    pod = pods["executors"]["exec-batch-predict"]
    assert [one["secretName"] for one in pod["secretAsEnv"]] == ["graft-s3", "graft-mlflow"]
    assert pod["imagePullSecret"][0]["secretName"] == "registry-credentials"
    assert pod["pvcMount"][0]["mountPath"] == "/data"
    assert steps_of(spec)["batch-predict"].retry_policy.max_retry_count == 2
    fetching = {one["name"]: one["value"] for one in executors["exec-get-data"]["container"]["env"]}
    assert fetching["GRAFT_DATA_DIGEST"] == "d1"
    assert steps_of(spec)["get-data"].caching_options.enable_cache
    # The champion may have changed since.
    assert not steps_of(spec)["batch-predict"].caching_options.enable_cache


def test_images_not_set_when_compiling_must_be_set_when_it_runs(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "batch.yaml", BatchParams())
    spec = json_format.ParseDict(yaml.safe_load((tmp_path / "batch.yaml").read_text()), PipelineSpec())
    inputs = spec.root.input_definitions.parameters
    assert not inputs["get_data"].HasField("default_value")
    assert inputs["model"].default_value.string_value == CHAMPION


@pytest.mark.slow
def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    compiled = CliRunner().invoke(app, ["compile", "--pipeline", "batch", "--profile", "k8s", "--data", "/data/new"])
    assert compiled.output == "outputs/batch.yaml: the pipeline for Kubeflow\n"
    assert documents(tmp_path / "outputs" / "batch.yaml")[0].pipeline_info.name == "graft-batch"
    with serving() as kubeflow:
        chosen = ["--host", kubeflow.url, "--pipeline", "batch", "--data", "/data/new", "--model", "models:/birds/7"]
        run = CliRunner().invoke(app, ["submit", *chosen])
        assert run.exit_code == 0, run.output
        planned = CliRunner().invoke(app, ["schedule", *chosen, "--cron", "0 0 3 * * *"])
        assert planned.exit_code == 0, planned.output
        assert kubeflow.faults == []
        for kept in (kubeflow.runs[run.output.strip()], kubeflow.schedules[planned.output.strip()]):
            defaults = kept["pipeline_spec"]["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
            assert defaults["model"]["defaultValue"] == "models:/birds/7"
            assert defaults["get_data"]["defaultValue"] == {"source": "/data/new"}
            assert kept["display_name"].startswith("graft-batch")
            assert kubeflow.experiments[kept["experiment_id"]]["display_name"] == "graft-batch"
        nothing = CliRunner().invoke(app, ["submit", "--host", kubeflow.url, "--pipeline", "batch"])
    assert "batch: no images; use --data FOLDER" in str(nothing.exception)
    training = CliRunner().invoke(app, ["compile", "--model", "models:/birds/7"])
    assert "the training pipeline makes its own model" in str(training.exception)


@pytest.mark.slow
def test_it_runs_on_this_machine(tmp_path: Path, image_folder: MakeImages) -> None:
    dataset = small_dataset(tmp_path / "dataset")
    bundle = with_abstention(bundle_of(dataset), dataset)
    bundle.save(tmp_path / "model")
    evaluated(dataset, bundle, tmp_path / "evidence")
    images = image_folder({"monday": 3, "tuesday": 2})
    (images / "monday" / "broken.png").write_bytes(b"no picture")
    params = BatchParams(get_data=GetDataParams(source=str(images)), model=str(tmp_path / "model"))

    shown: list[str] = []
    folders = run_locally(
        batch, params.arguments(), STEPS, tmp_path / "steps", tmp_path / "run.log", PlainLines(shown.append)
    )
    answers = pq.read_table(folders["batch_predict"] / "predictions" / "predictions.parquet").to_pandas()
    assert len(answers) == 6
    assert list(answers[answers["label"].isna()]["path"]) == ["monday/broken.png"]
    assert "<html" in (folders["batch_predict"] / "drift").read_text()
    assert json.loads((folders["batch_predict"] / METRICS).read_text())["errors"] == 1
