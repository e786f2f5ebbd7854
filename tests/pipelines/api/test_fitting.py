"""`import graft` as a user of Python or a notebook has it: one whole run, and what it gives."""

import ast
import doctest
import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import graft
from graft.core.errors import DataError, GraftError, ParamsError, RegistryError
from graft.runs.mlflow_store import experiment_id, open_client
from tests.support.pictures import picture

QUICK = """
extract_features: {image_size: 32}
train_head: {folds: 2, reuse_depth: last}
fine_tune: {epochs: 1}
evaluate: {bootstrap: 100}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Path]:
    """A user's folder with photos, settings and a run; the working folder of these tests."""
    folder = tmp_path_factory.mktemp("user")
    for split, number in {"train": 24, "test": 8}.items():
        for label, name in enumerate(["cat", "dog"]):
            (folder / "photos" / split / name).mkdir(parents=True)
            for one in range(number):
                picture(label, 500 * (split == "test") + one, 24).save(
                    folder / "photos" / split / name / f"{one:04d}.png"
                )
    shutil.copy(folder / "photos" / "test" / "cat" / "0000.png", folder / "a.jpg")
    (folder / "params.yaml").write_text(QUICK)
    (folder / "mlruns").mkdir()
    shutil.copy(empty_store, folder / "mlruns" / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlruns/mlflow.db")
        patch.setenv("GRAFT_CACHE", str(folder / "cache"))
        heard: list[graft.Progress] = []
        graft.fit("photos", preset="quick", progress=heard.append)
        assert heard[-1].done == heard[-1].steps == 9
        assert any(one.step == "train_head" for one in heard)
        yield folder


@pytest.fixture(autouse=True)
def in_place(place: Path, no_outside_store: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlruns/mlflow.db")
    monkeypatch.setenv("GRAFT_CACHE", str(place / "cache"))


def test_the_same_call_again_runs_nothing() -> None:
    result = graft.fit("photos", preset="quick", progress=lambda _: None)
    assert len(result.summary.reused_steps) == 9
    assert result.metrics["accuracy"] == 1.0
    low, high = result.intervals["accuracy"] or (0.0, 0.0)
    assert low < 1.0 == high
    assert result.model.predict("a.jpg")["label"].tolist() == ["cat"]
    assert result.report.path.is_file()
    assert result.data_page.path.is_file()


def test_preset_and_budget_are_in_mlflow() -> None:
    client = open_client()
    run = client.get_run(graft.Result.read("outputs").summary.mlflow.run_id)
    assert run.data.tags["graft.preset"] == "quick"
    assert run.data.tags["graft.budget"] == "none"
    assert run.data.params["fine_tune.enabled"] == "False"


def test_a_result_shows_itself() -> None:
    result = graft.Result.read("outputs")
    assert "test accuracy" in repr(result)
    assert "outputs/report.html" in repr(result)
    assert repr(result.report) == "outputs/report.html"
    assert [line.split()[0] for line in repr(result).splitlines()[:3]] == ["train", "val", "test"]
    shown = result._repr_html_()
    assert shown.count("<table>") == 1
    assert result.figures["comparison"]._repr_svg_() in shown
    assert "srcdoc" in result.report.inline()._repr_html_()
    with pytest.raises(DataError, match="no results of a run here"):
        graft.Result.read("photos")


def test_a_model_shows_itself_in_three_lines() -> None:
    labels, size, origin = repr(graft.load("outputs/model")).splitlines()
    assert labels == "Model of 2 labels: cat, dog"
    assert size.startswith("tf_efficientnet_lite0 up to ")
    assert origin == "from outputs/model"
    version = graft.Result.read("outputs").summary.model
    loaded = graft.load(f"models:/{version.name}/{version.version}")
    assert (
        repr(loaded).splitlines()[2]
        == f"from models:/{version.name}/{version.version} in sqlite:///{Path.cwd()}/mlruns/mlflow.db"
    )
    assert "<td>2 labels: cat, dog</td>" in loaded._repr_html_()


def test_a_registry_that_is_not_there_is_named_and_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(RegistryError, match=f"no models in sqlite:///{tmp_path}/mlruns/mlflow.db"):
        graft.load("models:/graft@champion")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_not_registered_is_answered_with_the_registry(place: Path) -> None:
    with pytest.raises(RegistryError, match=f"cannot be read from sqlite:///{place}/mlruns/mlflow.db"):
        graft.load("models:/nobody@champion")


def test_validate_and_doctor_show_what_they_found() -> None:
    checked = graft.validate("photos", say=lambda text: None)
    assert checked.verdict in repr(checked)
    assert checked.page.path.is_file()
    assert checked.counts["test"] == {"cat": 8, "dog": 8}
    diagnosis = graft.doctor("photos")
    assert diagnosis.seconds > 0
    assert "64 in 2 classes" in repr(diagnosis)
    assert "<table>" in diagnosis._repr_html_()
    with pytest.raises(GraftError):
        graft.doctor("no such folder")


def test_a_wrong_keyword_stops_before_anything_runs() -> None:
    before = (Path("outputs") / "run.log").stat().st_mtime_ns
    with pytest.raises(ParamsError, match=r"train_head\.haed"):
        graft.fit("photos", train_head={"haed": "linear"})
    assert (Path("outputs") / "run.log").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "module", ["graft", "pipelines.api.fitting", "pipelines.api.checking", "graft.serving.loading"]
)
def test_the_examples_in_the_docstrings_run(module: str) -> None:
    names = {"graft": graft}
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    found = doctest.testmod(importlib.import_module(module), extraglobs=names, optionflags=options)
    assert found.attempted > 0
    assert found.failed == 0


def test_importing_graft_imports_nothing_else(root: Path) -> None:
    code = "import sys; before = set(sys.modules); import graft; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in ast.literal_eval(done.stdout)}
    assert loaded - sys.stdlib_module_names == {"graft"}
    assert "Progress" in dir(graft)
    with pytest.raises(AttributeError, match="no attribute 'fti'"):
        graft.fti  # noqa: B018


@pytest.mark.slow
def test_an_interrupted_fit_goes_on(
    tmp_path: Path, place: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    code = (
        "import graft, sys\n"
        "graft.fit('photos', preset='quick', out=sys.argv[1], progress=lambda one: print(one.line, flush=True))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert run.stdout
    assert any(line.startswith("[3/9] extract_features") for line in run.stdout)
    os.killpg(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode != 0
    assert said.rstrip().endswith("KeyboardInterrupt")
    client = open_client()
    assert "RUNNING" not in {one.info.status for one in client.search_runs([experiment_id(client, "")])}
    result = graft.fit("photos", preset="quick", out=tmp_path / "out", progress=lambda _: None)
    assert {"get_data", "validate_data"} <= set(result.summary.reused_steps)
    assert "register_model" not in result.summary.reused_steps
