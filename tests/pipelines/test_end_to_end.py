"""The whole pipeline as a user starts it, on small images, with KFP's local runner."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from graft.core.digest import folder_digest
from graft.models.bundle import ModelBundle
from graft.params.params import Params
from pipelines.cli import app
from pipelines.local.summary import Summary
from tests.support.pictures import MakeImages

QUICK = (
    "extract_features.image_size=32 train_head.reuse_depth=last train_head.folds=2 "
    "fine_tune.epochs=1 evaluate.bootstrap=100"
)


def run(root: Path, data: Path, out: Path, params: str = "", *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", "run", "--data", str(data), "--out", str(out), "--params", params]
    command.extend(options)
    # Not in the repository: a run remembers its model in the folder where it was started.
    environment = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=out.parent, env=environment, capture_output=True, text=True, check=False)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.iterdir()}


@pytest.mark.slow
def test_a_folder_of_images_becomes_a_registered_model(
    root: Path, tmp_path: Path, image_folder: MakeImages, store: Path
) -> None:
    counts: Mapping[str, Mapping[str, int]] = {"train": {"cat": 24, "dog": 24}, "test": {"cat": 8, "dog": 8}}
    data, out = image_folder(counts), tmp_path / "out"
    done = run(root, data, out, QUICK)
    assert done.returncode == 0, done.stderr[-3000:]

    assert files(out) == {"model", "report.html", "review", "run.log", "steps", "summary.json", "validation"}
    summary = Summary.model_validate(json.loads((out / "summary.json").read_text()))
    assert summary.data.counts["test"] == {"cat": 8, "dog": 8}
    assert summary.metrics["test"]["accuracy"].value >= 0.9
    assert set(summary.seconds) == {*Params.model_fields, "total"}
    assert summary.model.version == 1
    assert summary.model.name in done.stdout
    for number, step in enumerate(Params.model_fields, start=1):
        assert f"[{number}/9] {step}: done in" in done.stderr
    assert "KFP Executor" not in done.stdout + done.stderr

    table = ModelBundle.load(out / "model").predict([data / "test" / "cat" / "0000.png"])
    assert len(table) == 1

    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{store}")
    experiment = client.search_experiments(filter_string="name = 'graft'")[0].experiment_id
    runs = client.search_runs([experiment])
    parents = {one.data.tags.get("mlflow.parentRunId") for one in runs} - {None}
    assert parents == {summary.mlflow.run_id}
    assert {one.info.run_name for one in runs if "mlflow.parentRunId" in one.data.tags} == set(Params.model_fields)
    assert {one.info.status for one in runs} == {"FINISHED"}
    whole = client.get_run(summary.mlflow.run_id)
    assert whole.info.run_name.endswith(f" · {summary.metrics['test']['accuracy'].value:.3f}")
    assert {file.path for file in client.list_artifacts(whole.info.run_id)} == {"report.html", "card.md"}
    assert f"{summary.model.name}@champion" in client.get_registered_model(summary.model.name).description

    # Nothing has changed: nothing runs, wherever the results go, and no second version is registered.
    again = run(root, data, tmp_path / "again", QUICK)
    assert again.returncode == 0, again.stderr[-3000:]
    repeated = Summary.model_validate(json.loads((tmp_path / "again" / "summary.json").read_text()))
    assert repeated.reused_steps == list(Params.model_fields)
    kept = {"reused_steps": [], "seconds": summary.seconds}
    assert repeated.model_copy(update=kept) == summary
    for file in ("report.html", "model/bundle.json", "review/review.html"):
        assert (tmp_path / "again" / file).read_bytes() == (out / file).read_bytes()
    assert len(client.search_model_versions(f"name = '{summary.model.name}'")) == 1

    # Only the evaluation has changed: it and what depends on it run.
    other = run(root, data, out, f"{QUICK} evaluate.bootstrap=110")
    assert other.returncode == 0, other.stderr[-3000:]
    changed = Summary.model_validate(json.loads((out / "summary.json").read_text()))
    assert set(Params.model_fields) - set(changed.reused_steps) == {"evaluate", "register_model"}
    assert changed.model.version == 2
    assert client.get_run(changed.mlflow.run_id).info.status == "FINISHED"
    provenance = [client.get_model_version(summary.model.name, str(version)).tags for version in (1, 2)]
    assert provenance[0]["params.digest"] != provenance[1]["params.digest"]


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_both_runners_make_equal_artifacts(root: Path, tmp_path: Path, image_folder: MakeImages) -> None:
    data = image_folder({"cat": 10, "dog": 10})
    params = f"{QUICK} fine_tune.enabled=false evaluate.random_init=false"
    for runner in ("warm", "subprocess"):
        done = run(root, data, tmp_path / runner, params, "--runner", runner, "--force")
        assert done.returncode == 0, done.stderr[-3000:]
    forked, started = artifacts(tmp_path / "warm"), artifacts(tmp_path / "subprocess")
    assert forked == started
    assert len(forked) == 5


def artifacts(out: Path) -> dict[str, str]:
    names = ("get-data/raw", "validate-data/dataset", "extract-features/features", "train-head/head", "fine-tune/tuned")
    return {name: folder_digest(folder) for name in names for folder in out.glob(f"steps/*/{name}")}


@pytest.mark.slow
def test_a_broken_image_fails_the_run_with_its_name_and_the_page_is_kept(
    root: Path, tmp_path: Path, image_folder: MakeImages
) -> None:
    data, out = image_folder({"cat": 8, "dog": 8}), tmp_path / "out"
    broken = data / "cat" / "0003.png"
    broken.write_bytes(broken.read_bytes()[:200])
    done = run(root, data, out)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("validate_data: ")
    assert "cat/0003.png" in last
    assert (out / "validation" / "data.html").is_file()
    assert not (out / "summary.json").exists()


def test_a_missing_folder_is_one_clear_line(root: Path, tmp_path: Path) -> None:
    done = run(root, tmp_path / "nothing", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(f"get_data: {tmp_path}/nothing: no such file or folder")
    assert "Traceback" not in done.stderr


def test_bad_options_are_reported_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for arguments, line in (
        ({"out": tmp_path / "file" / "out"}, "cannot write here (Not a directory); choose a folder you may write to"),
        ({"out": tmp_path / "python3"}, "a local run cannot use a path with 'python3' in it"),
        ({"out": tmp_path / "out", "params": "train_head.l3=1"}, "unknown parameter 'train_head.l3'"),
        ({"out": tmp_path / "out", "params": "train_head.folds=x"}, "train_head.folds='x'"),
        (
            {"out": tmp_path / "out", "params": "extract_features.backbone=resnt18"},
            "unknown architecture; did you mean",
        ),
    ):
        options = [text for name, value in arguments.items() for text in (f"--{name}", str(value))]
        done = CliRunner().invoke(app, ["run", "--data", str(tmp_path), *options])
        assert done.exit_code == 1
        assert line in done.output
        assert len(done.output.strip().splitlines()) == 1
