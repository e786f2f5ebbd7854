"""Adaptation as a pipeline: its arguments, its compiled form with a profile, its commands, and a run here."""

import json
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec
from typer.testing import CliRunner

from graft.core.errors import ParamsError
from graft.params.get_data import GetDataParams
from pipelines import adapt_folder
from pipelines.adapt import STEPS, adapt_pipeline
from pipelines.adapt_arguments import AdaptPipelineParams, load_adapt_params
from pipelines.cli import app
from pipelines.cluster.compiled import write_pipeline
from pipelines.cluster.profile import Profile
from pipelines.local.progress import PlainLines
from pipelines.local.runner import METRICS, run_locally
from tests.support.compiled_graph import steps_of
from tests.support.kubeflow_server import serving
from tests.support.shifted import adaptable, write_target
from tests.support.tiny import small_dataset


def test_images_model_and_section() -> None:
    params = load_adapt_params(
        "adapt.method=standardise check=/data/labels.csv adapt.shift=0.7", "/data/night", "models:/birds/7"
    )
    assert isinstance(params, AdaptPipelineParams)
    assert params.get_data == GetDataParams(source="/data/night")
    assert (params.adapt.method, params.adapt.shift) == ("standardise", 0.7)
    assert params.arguments()["adapt_params"]["min_images"] == 50
    assert params.arguments()["check"] == "/data/labels.csv"
    assert "domain" not in params.arguments()["adapt_params"]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ("adapt.metod=both", "adapt: unknown parameter 'metod': did you mean 'method'?"),
        ("adapt.min_images=3", "min_images=3"),
        ("train_head.folds=3", "'train_head.folds=3'"),
        ("adapt.domain='night", 'PARAMS: "adapt.domain=\'night": no closing quotation; close the quote'),
    ],
)
def test_bad_arguments_are_one_clear_line(overrides: str, line: str) -> None:
    with pytest.raises(ParamsError) as error:
        load_adapt_params(overrides, "/data/night")
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_quote_that_is_never_closed_is_one_line_on_this_machine(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        adapt_folder.main(tmp_path, params="adapt.domain='night", out=tmp_path / "out")
    assert str(ended.value).startswith('PARAMS: "adapt.domain=\'night": no closing quotation')


def test_a_profile_applies_to_it(tmp_path: Path) -> None:
    profile = Profile.load("k8s")
    write_pipeline(tmp_path / "adapt.yaml", load_adapt_params("", "/data/night"), profile=profile)
    written = next(iter(yaml.safe_load_all((tmp_path / "adapt.yaml").read_text())))
    spec = json_format.ParseDict(written, PipelineSpec())
    assert spec.pipeline_info.name == "graft-adapt"
    assert set(steps_of(spec)) == {"get-data", "adapt-registered"}
    executor = json_format.MessageToDict(spec.deployment_spec)["executors"]["exec-adapt-registered"]["container"]
    assert executor["image"] == profile.images.torch
    assert executor["resources"]["resourceMemoryLimit"] == profile.steps["adapt_registered"].memory_limit
    assert steps_of(spec)["adapt-registered"].retry_policy.max_retry_count == 0
    assert not steps_of(spec)["adapt-registered"].caching_options.enable_cache


@pytest.mark.slow
def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with serving() as kubeflow:
        chosen = ["--host", kubeflow.url, "--pipeline", "adapt", "--data", "/data/night", "--model", "models:/birds/7"]
        run = CliRunner().invoke(app, ["submit", *chosen, "--params", "adapt.domain=night"])
        assert run.exit_code == 0, run.output
        planned = CliRunner().invoke(app, ["schedule", *chosen, "--cron", "0 0 3 * * *"])
        assert planned.exit_code == 0, planned.output
        assert kubeflow.faults == []
        kept = kubeflow.runs[run.output.strip()]
        defaults = kept["pipeline_spec"]["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
        assert defaults["model"]["defaultValue"] == "models:/birds/7"
        assert defaults["adapt_params"]["defaultValue"]["domain"] == "night"
        assert kept["display_name"].startswith("graft-adapt")


@pytest.mark.slow
def test_it_runs_on_this_machine(tmp_path: Path) -> None:
    adaptable(small_dataset(tmp_path / "dataset")).save(tmp_path / "model")
    labels = write_target(tmp_path / "night")
    rows = [f"{name},{label}" for name, label in sorted(labels.items())[::4]]
    (tmp_path / "night" / "labels.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    data = GetDataParams(source=str(tmp_path / "night"))
    params = AdaptPipelineParams(get_data=data, model=str(tmp_path / "model"), check="labels.csv")
    shown: list[str] = []
    folders = run_locally(
        adapt_pipeline, params.arguments(), STEPS, tmp_path / "steps", tmp_path / "run.log", PlainLines(shown.append)
    )
    found = json.loads((folders["adapt_registered"] / METRICS).read_text())["adaptation"]
    assert found["kept"]
    assert found["guards"][-1]["name"] == "check"
    assert found["left_out"]["checked"] == len(rows)
    assert (folders["adapt_registered"] / "adapted" / "model" / "bundle.json").is_file()
    assert "<html" in (folders["adapt_registered"] / "page").read_text()
