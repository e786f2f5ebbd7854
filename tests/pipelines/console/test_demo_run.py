"""`graft run` without anything: the demo, whose first run is short unless the user asks for something else."""

from pathlib import Path
from typing import Any

import pytest

from graft.params.params import Params
from pipelines.cli import app
from pipelines.console import training


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Params]:
    """Return the parameters that runs start with; nothing is run."""
    found: list[Params] = []
    monkeypatch.chdir(tmp_path)

    def run(params: Params, *rest: Any, **options: Any) -> None:
        found.append(params)

    monkeypatch.setattr(training, "_run", run)
    return found


def graft(*words: str) -> None:
    app(list(words), standalone_mode=False)


def test_the_demo_gives_stages_little_time_and_says_so(
    started: list[Params], capsys: pytest.CaptureFixture[str]
) -> None:
    graft("run")
    assert started[0].fine_tune.budget == training.DEMO_BUDGET
    said = capsys.readouterr().err
    assert "data/digits: the demo, 1,500 real handwritten digits" in said
    assert "stages of fine-tuning get 20s; graft run data/digits gives them as long as they pay" in said


def test_what_is_said_there_can_be_done(started: list[Params], capsys: pytest.CaptureFixture[str]) -> None:
    graft("run")
    capsys.readouterr()
    graft("run", "data/digits")
    assert started[1].fine_tune == Params().fine_tune
    assert "stages of fine-tuning" not in capsys.readouterr().err


def test_whoever_chooses_gets_it(started: list[Params]) -> None:
    graft("run", "--params", "fine_tune.budget=5m")
    graft("run", "--params", "fine_tune.enabled=false")
    graft("run", "--budget", "5m")
    assert [params.fine_tune.budget for params in started] == ["5m", "auto", "auto"]
