"""What the step says of itself where there is nothing to judge by."""

from pathlib import Path

import pytest

from components.fine_tune.step import fine_tune
from graft.models.bundle import ModelBundle
from graft.runs.params import FineTuneParams
from graft.runs.run_log import SilentLog
from tests.support.tiny import bundle_of, small_dataset


def test_without_validation_images_nothing_is_tried_and_the_step_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = small_dataset(tmp_path / "dataset", val=0)
    bundle_of(dataset).save(tmp_path / "head")
    metrics = fine_tune(
        tmp_path / "dataset", tmp_path / "head", tmp_path / "model", FineTuneParams(strategy="staged"), SilentLog()
    )
    assert (metrics["strategy"], metrics["stages"], metrics["refit"]) == ("frozen", [], False)
    message = "fine_tune: no validation images: nothing is trained; set validate_data.val_fraction above 0"
    assert message in capsys.readouterr().err
    assert ModelBundle.load(tmp_path / "model").spec.stages == ()
