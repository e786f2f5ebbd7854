"""`graft report RUN RUN`: runs are found by folder, id, name and version, and compared through the command."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from components.evaluate.step import evaluate
from components.register_model.step import register_model
from components.train_head.step import train_head
from graft.runs.recorded_runs import find_run
from pipelines.cli import app
from tests.support.browser import browser
from tests.support.finished_run import FinishedRun

QUICK = {"bootstrap": 100, "random_init": False, "learning_curve": False, "explain": False}


@pytest.fixture(scope="module")
def runs(finished_run: FinishedRun, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two pipeline runs that differ in the head's penalty, and the output folder of the second."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        for name, l2 in (("first", 1e-3), ("second", 1e7)):
            patch.setenv("GRAFT_PIPELINE_RUN", name)
            patch.setenv("GRAFT_RUN_NAME", name)
            made = folder / f"{name}_outputs"
            features = finished_run.folder / "features"
            train_head.run(
                params={"l2": l2, "head": "linear"}, metrics=made / "h.json", features=features, head=made / "head"
            )
            evaluate.run(
                params=QUICK, metrics=made / "e.json", dataset=finished_run.dataset, features=features,
                head=made / "head", model=made / "head", evaluation=made / "evaluation",
            )  # fmt: skip
            found = register_model.run(
                params={"name": "insects", "max_milliseconds": 1e6}, metrics=made / "r.json",
                dataset=finished_run.dataset, model=made / "head", evaluation=made / "evaluation",
                registration=made / "registration",
            )  # fmt: skip
        place = {"tracking_uri": found["tracking_uri"], "run_id": found["run_id"]}
        (folder / "second_outputs" / "summary.json").write_text(json.dumps({"mlflow": place}))
        patch.delenv("GRAFT_PIPELINE_RUN")
        yield folder


@pytest.fixture(autouse=True)
def beside_the_runs(runs: Path, no_outside_store: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{runs}/mlflow.db")


def test_a_run_is_found_by_whatever_is_at_hand(runs: Path) -> None:
    second = find_run(str(runs / "second_outputs"))
    assert second.name == "second"
    assert find_run(second.id) == find_run("second") == find_run("models:/insects/2") == second
    assert find_run(second.steps["evaluate"]) == second, "the run of a step stands for its pipeline's"
    assert second.params["train_head.l2"] == "10000000.0"
    assert set(second.seconds) == {"train_head", "evaluate", "register_model"}


def test_the_command_compares_and_writes_a_page(runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "comparison.html"
    result = CliRunner().invoke(app, ["report", "first", str(runs / "second_outputs"), "--out", str(page)])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith(("A is ", "A and B are "))
    assert lines[1].startswith("A  ")
    assert lines[1].endswith("  the best")
    assert {"first", "second"} == {line.split(")  ")[1].split("  ")[0] for line in lines[1:3]}
    assert any(line.startswith("differs: train_head.l2: ") for line in lines)
    assert lines[-1] == str(page)
    with browser(tmp_path / "profile") as opened:
        opened.open(page)
        assert opened.complaints == []
        assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
        assert opened.violations() == []
        assert opened.run("document.querySelectorAll('#runs').length") == 1
        opened.screenshot(390, 800)
        assert opened.run("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize(
    ("references", "line"),
    [
        (["first"], "one run alone cannot be compared"),
        (["first", "second", "third"], "third: not found in sqlite:"),
        (["first", "models:/insects/1"], "one and the same run"),
        (["first", "models:/insects/9"], "models:/insects/9: no such registered model"),
        (["first", "0" * 32], "no such run"),
        (["first", "."], r".: no summary.json here"),
    ],
)
def test_what_cannot_be_compared_is_one_line(runs: Path, references: list[str], line: str) -> None:
    result = CliRunner().invoke(app, ["report", *references])
    assert result.exit_code == 1
    assert line in result.output
    assert not (runs / "comparison.html").exists()


def test_two_runs_of_one_name_must_be_told_apart(runs: Path) -> None:
    client = MlflowClient(f"sqlite:///{runs}/mlflow.db")
    client.create_run("1", run_name="twice")
    client.create_run("1", run_name="twice")
    result = CliRunner().invoke(app, ["report", "first", "twice"])
    assert "several runs in" in result.output
