"""The numbers that runs are compared by, from a finished pipeline to `dvc metrics show`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from graft.evaluation.key_figures import key_figures
from graft.evaluation.schema import read_evaluation
from tests.support.finished_run import FinishedRun


def test_they_are_the_evaluation_s(finished_run: FinishedRun) -> None:
    found = read_evaluation(finished_run.evaluation)
    written = json.loads((finished_run.evaluation / "key_figures.json").read_text())
    assert written == key_figures(found)
    assert len(written) <= 10
    assert written["accuracy"] == found.test["accuracy"].value
    assert written["accuracy_of_head"] == found.head["accuracy"].value
    assert written["accuracy_low"] <= written["accuracy"] <= written["accuracy_high"]
    assert written["test_images"] == 90


@pytest.mark.slow
def test_dvc_shows_these_and_no_others(root: Path, finished_run: FinishedRun, tmp_path: Path) -> None:
    declared = yaml.safe_load((root / "dvc.yaml").read_text())
    assert not [stage for stage in declared["stages"].values() if "metrics" in stage]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"metrics": declared["metrics"]}))
    shutil.copytree(finished_run.evaluation, tmp_path / "artifacts" / "evaluation")

    def dvc(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "dvc", *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    dvc("init", "--no-scm", "-q")
    (shown,) = json.loads(dvc("metrics", "show", "--json"))[""]["data"].items()
    assert shown[0].endswith("key_figures.json")
    assert shown[1]["data"] == key_figures(read_evaluation(finished_run.evaluation))
