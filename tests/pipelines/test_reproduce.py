"""A run is made again from its record in MLflow."""

import subprocess
import sys
from pathlib import Path

import pytest

from graft.params.checking import validate_values
from graft.params.overrides import split_overrides
from graft.params.params import Params
from graft.runs.live_log import flat_texts
from pipelines.reproduce import RecordedRun, overrides, sections_of, show
from tests.support.pictures import MakeImages

VALUES = {
    "get_data": {"source": "data/it's here"},
    "validate_data": {
        "severity": {"blurred": "fail"},
        "thresholds": {"min_side": 8},
        "label_level": 2,
        "expectations": "none",
    },
    "extract_features": {"mean": [0.5, 0.25, 0.1], "image_size": 64, "candidates": ["a", "b=c"]},
    "train_head": {"source_labels": {"7": "seven", "cat": ["tabby", "tiger cat"]}, "l2": 1e-7},
    "evaluate": {"positive": "7", "slices": ["format"], "threshold": "precision>=0.9"},
    "register_model": {"name": "two words"},
}


# A folder that is not there: one that is becomes an absolute path.
DEFAULTS = {"validate_data": {"expectations": "none"}}


@pytest.mark.parametrize("values", [DEFAULTS, VALUES], ids=["defaults", "odd"])
def test_recorded_parameters_are_read_back(
    values: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # paths that exist become absolute; no default exists here
    params = validate_values(Params, values, "test")
    texts = {
        f"{section}.{name}": text
        for section in Params.model_fields
        for name, text in flat_texts(params.section(section)).items()
    }
    texts |= {
        "train_head.depth": "features.3",
        "made.elsewhere": "x",
        "extract_features.backbone.groups": "stem",
    }  # decisions
    found = sections_of(texts)
    assert validate_values(Params, found, "record") == params
    assert Params.load(overrides=split_overrides(overrides(found))) == params


def test_what_differs_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    before = {"data.digest": "a" * 64, "weights.digest": "b" * 64}
    assert show(before, dict(before))
    assert "reproduced" in capsys.readouterr().out
    assert not show(before, {"data.digest": "a" * 64, "weights.digest": "c" * 64})
    said = capsys.readouterr().out
    assert "weights.digest   DIFFERS  bbbbbbbbbbbbbbbb -> cccccccccccccccc" in said
    assert "data.digest      equal" in said


@pytest.mark.slow
def test_a_run_and_the_same_again(root: Path, tmp_path: Path, image_folder: MakeImages, store: Path) -> None:
    import json

    data = image_folder({"train": {"cat": 12, "dog": 12}, "test": {"cat": 12, "dog": 12}})
    quick = "extract_features.image_size=32 train_head.reuse_depth=last fine_tune.enabled=false evaluate.bootstrap=100"
    command = [sys.executable, "-m", "pipelines.cli", "run", "--data", str(data), "--out", str(tmp_path / "out")]
    subprocess.run([*command, "--params", quick], cwd=root, check=True, capture_output=True)
    run_id = json.loads((tmp_path / "out" / "summary.json").read_text())["mlflow"]["run_id"]
    assert f"make reproduce RUN={run_id}" in (tmp_path / "out" / "report.html").read_text()
    assert set(RecordedRun.read(run_id).digests) >= {"data.digest", "weights.digest", "code.digest"}
    again = [sys.executable, "-m", "pipelines.reproduce", run_id, "--out", str(tmp_path / "again")]
    done = subprocess.run(again, cwd=root, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reproduced" in done.stdout
