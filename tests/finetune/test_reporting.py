"""Progress messages and logged metrics of a stage."""

import pytest

from graft.finetune.reporting import full_fit_reporter, held_out_reporter, print_progress
from graft.runs.processes import Process
from graft.runs.run_log import SilentLog
from graft.training.stage import Stage

STAGE = Stage(("blocks.5", "neck"), epochs=8, lr=0.1)


class Metrics(SilentLog):
    def __init__(self) -> None:
        self.seen: list[tuple[str, float, int]] = []

    def metric(self, name: str, value: float, step: int = 0) -> None:
        self.seen.append((name, value, step))


@pytest.mark.parametrize(("n_folds", "folds"), [(0, ""), (4, ", 4 folds")])
def test_an_epoch_with_held_out_images_is_logged_and_printed(
    capsys: pytest.CaptureFixture[str], n_folds: int, folds: str
) -> None:
    log = Metrics()
    held_out_reporter(STAGE, "trial of stage", 1, n_folds, log)(2, 0.25, 0.5)
    assert log.seen == [("train_loss", 0.25, 1002), ("held_out_loss", 0.5, 1002)]
    line = f"fine_tune: trial of stage blocks.5: epoch 2/8{folds}, loss 0.250, held out 0.500\n"
    assert capsys.readouterr().err == line


def test_an_epoch_whose_held_out_loss_is_not_known_is_told_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    log = Metrics()
    held_out_reporter(STAGE, "stage", 0, 0, log)(3, 0.25, None)
    assert log.seen == [("train_loss", 0.25, 3)]
    assert capsys.readouterr().err == "fine_tune: stage blocks.5: epoch 3/8, loss 0.250\n"


def test_an_epoch_on_all_images_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    full_fit_reporter("stage neck on all training images", 3)(2, 0.25)
    assert capsys.readouterr().err == "fine_tune: stage neck on all training images: epoch 2/3, loss 0.250\n"


def test_only_the_first_of_several_processes_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graft.finetune.reporting.this_process", lambda: Process(1, 2))
    print_progress("anything")
    assert capsys.readouterr().err == ""
