"""What the step says of itself where there is little to judge by, or nothing to win."""

from pathlib import Path

import numpy as np
import pytest

from components.fine_tune.step import fine_tune
from graft.core.errors import ModelError
from graft.data.dataset import ImageDataset
from graft.heads.out_of_fold import write_out_of_fold
from graft.models.bundle import ModelBundle
from graft.params.fine_tune import FineTuneParams
from graft.runs.run_log import SilentLog
from graft.runs.step import Metrics
from tests.support.tiny import tuning_inputs

PARAMS = FineTuneParams(epochs=1, batch_size=7, lr=1e-4, refit=True)


def run(folder: Path, params: FineTuneParams) -> Metrics:
    return fine_tune(folder / "dataset", folder / "features", folder / "head", folder / "model", params, SilentLog())


def test_without_validation_images_the_training_images_judge(tmp_path: Path) -> None:
    metrics = run(tuning_inputs(tmp_path, val=0), PARAMS)
    assert [stage["evidence"] for stage in metrics["stages"]] == ["cross_validation"]
    assert (metrics["untried"], metrics["refit"]) == ("", False)
    assert ModelBundle.load(tmp_path / "model").validation is None


def test_features_of_another_dataset_are_refused(tmp_path: Path) -> None:
    folder, other = tuning_inputs(tmp_path), tuning_inputs(tmp_path / "other", val=2)
    with pytest.raises(ModelError, match=r"features of another dataset than .*; run extract_features again"):
        fine_tune(folder / "dataset", other / "features", folder / "head", folder / "model", PARAMS, SilentLog())


def test_without_anything_to_judge_by_nothing_is_tried_and_the_step_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = run(tuning_inputs(tmp_path, val=0), PARAMS.model_copy(update={"folds": 0}))
    assert (metrics["strategy"], metrics["stages"], metrics["refit"]) == ("frozen", [], False)
    why = "no validation images and no folds to judge a stage by (fine_tune.folds=0)"
    assert metrics["untried"] == why
    assert f"fine_tune: {why}; no stage is tried" in capsys.readouterr().err
    assert ModelBundle.load(tmp_path / "model").spec.untried == why


@pytest.mark.parametrize(("wrong", "untried"), [(2, "2 of 60 wrong: nothing to win"), (20, "")])
def test_where_the_head_is_nearly_always_right_no_stage_is_tried(tmp_path: Path, wrong: int, untried: str) -> None:
    folder = tuning_inputs(tmp_path)
    dataset = ImageDataset.read(folder / "dataset")
    rows = dataset.labelled("train")
    targets = dataset.targets()[rows].copy()
    targets[:wrong] = (targets[:wrong] + 1) % 3
    probabilities = 0.01 + 0.97 * np.eye(3)[targets]
    write_out_of_fold(folder / "head", dataset.table["id"].iloc[rows], dataset.classes, probabilities)
    metrics = run(folder, PARAMS)
    assert metrics["untried"] == untried
    assert bool(metrics["stages"]) == (not untried)
    assert metrics["refit"], "the head is refitted all the same"
