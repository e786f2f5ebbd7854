"""A stage on folds: trained epoch by epoch, judged together, resumed after an interruption."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graft.finetune.cross_fitting import Fold, cross_fit, judged_epochs
from graft.training.checkpoints import Checkpoint
from graft.training.prediction import predict
from tests.support.tiny_training import SETTINGS, STAGE, labelled, misleading, same_weights, three_folds, untrained


@pytest.fixture(scope="module")
def folds() -> list[Fold]:
    return three_folds(untrained(), labelled(48, 0))


def test_every_image_is_predicted_by_a_model_that_has_not_seen_it(folds: list[Fold]) -> None:
    epochs: list[tuple[int, float, float]] = []
    fitted = cross_fit(folds, STAGE, SETTINGS, lambda *epoch: epochs.append(epoch))
    assert [epoch for epoch, _, _ in epochs] == [1, 2, 3, 4]
    assert fitted.held_out_loss[-1] == fitted.held_out.loss(fitted.after) < fitted.held_out.loss(fitted.before)
    for number, (fold, classifier) in enumerate(zip(folds, fitted.classifiers, strict=True)):
        rows = slice(16 * number, 16 * number + 16)
        np.testing.assert_array_equal(predict(classifier, fold.held_out), fitted.after[rows])


def test_held_out_images_are_predicted_four_times_at_most(folds: list[Fold]) -> None:
    assert [judged_epochs(epochs) for epochs in (1, 3, 5, 8, 12)] == [
        (1,),
        (1, 2, 3),
        (2, 3, 4, 5),
        (2, 4, 6, 8),
        (3, 6, 9, 12),
    ]
    told: list[bool] = []
    fitted = cross_fit(folds, replace(STAGE, epochs=6), SETTINGS, lambda _, train, out: told.append(out is not None))
    assert told == [False, True, True, False, True, True]
    assert (len(fitted.train_loss), len(fitted.held_out_loss)) == (6, 4)
    assert fitted.held_out_loss[-1] == fitted.held_out.loss(fitted.after)


def test_a_stage_runs_to_the_end_of_its_schedule_whatever_the_loss(folds: list[Fold]) -> None:
    trained = cross_fit(folds, STAGE, SETTINGS).classifiers
    sure = [Fold(end, fold.train, fold.held_out) for end, fold in zip(trained, folds, strict=True)]
    fitted = cross_fit(misleading(sure), STAGE, SETTINGS)
    assert len(fitted.held_out_loss) == STAGE.epochs
    assert min(fitted.held_out_loss) < fitted.held_out_loss[-1], "whatever is learnt is wrong on what is held out"
    assert fitted.held_out.loss(fitted.after) == fitted.held_out_loss[-1]


def test_predictions_that_are_known_are_not_made_again(folds: list[Fold], monkeypatch: pytest.MonkeyPatch) -> None:
    before = cross_fit(folds, STAGE, SETTINGS).before
    known = [replace(fold, before=part) for fold, part in zip(folds, np.split(before, 3), strict=True)]
    monkeypatch.setattr("graft.finetune.cross_fitting.predictions", lambda classifiers, folds: before)
    monkeypatch.setattr("graft.finetune.cross_fitting.predict", lambda *_: pytest.fail("the start is known"))
    np.testing.assert_array_equal(cross_fit(known, STAGE, SETTINGS).before, before)


class CutError(Exception):
    """Simulates an interruption."""


@pytest.mark.parametrize("at", [1, 3, 4])
def test_interrupted_at_any_epoch_the_result_is_the_same(folds: list[Fold], tmp_path: Path, at: int) -> None:
    whole = cross_fit(folds, STAGE, SETTINGS)

    def cut(epoch: int, train_loss: float, held_out_loss: float) -> None:
        if epoch == at:
            raise CutError

    checkpoint = Checkpoint(tmp_path / "folds.safetensors")
    with pytest.raises(CutError):
        cross_fit(folds, STAGE, SETTINGS, cut, checkpoint)
    epochs: list[int] = []
    again = cross_fit(folds, STAGE, SETTINGS, lambda epoch, *_: epochs.append(epoch), Checkpoint(checkpoint.file))
    assert epochs[-1] == 4
    assert (epochs[0] > 1) == (at > 1)
    assert (again.train_loss, again.held_out_loss) == (whole.train_loss, whole.held_out_loss)
    np.testing.assert_array_equal(again.after, whole.after)
    pairs = zip(again.classifiers, whole.classifiers, strict=True)
    assert all(same_weights(one, other) for one, other in pairs)
    done = cross_fit(folds, STAGE, SETTINGS, lambda *_: pytest.fail("it was done"), Checkpoint(checkpoint.file))
    np.testing.assert_array_equal(done.after, whole.after)
