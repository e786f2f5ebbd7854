"""A stage on folds: trained epoch by epoch, judged together, resumed after an interruption."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graft.finetune.checkpoints import Checkpoint
from graft.finetune.cross_fitting import Fold, cross_fit
from graft.finetune.prediction import predict
from graft.finetune.stage_plan import Stage
from tests.support.tiny_training import SETTINGS, STAGE, labelled, misleading, same_weights, three_folds, untrained


@pytest.fixture(scope="module")
def folds() -> list[Fold]:
    return three_folds(untrained(), labelled(48, 0))


def test_every_image_is_predicted_by_a_model_that_has_not_seen_it(folds: list[Fold]) -> None:
    epochs: list[tuple[int, float, float]] = []
    fitted = cross_fit(folds, STAGE, SETTINGS, lambda *epoch: epochs.append(epoch))
    assert [epoch for epoch, _, _ in epochs] == [1, 2, 3, 4]
    assert fitted.loss == min(fitted.held_out_loss) < fitted.start_loss
    assert fitted.held_out_loss[fitted.best_epoch - 1] == fitted.loss
    for number, (fold, classifier) in enumerate(zip(folds, fitted.classifiers, strict=True)):
        np.testing.assert_array_equal(predict(classifier, fold.held_out), fitted.after[16 * number : 16 * number + 16])


def test_patience_ends_a_stage_and_the_start_is_kept_if_no_epoch_is_better(folds: list[Fold]) -> None:
    long = Stage(STAGE.groups, epochs=30, lr=0.02)
    trained = cross_fit(folds, STAGE, SETTINGS).classifiers
    sure = [Fold(end, fold.train, fold.held_out) for end, fold in zip(trained, folds, strict=True)]
    fitted = cross_fit(misleading(sure), long, replace(SETTINGS, patience=2))
    assert len(fitted.held_out_loss) == fitted.best_epoch + 2
    if fitted.best_epoch == 0:
        np.testing.assert_array_equal(fitted.after, fitted.before)


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
    assert (again.best_epoch, again.train_loss, again.held_out_loss) == (
        whole.best_epoch,
        whole.train_loss,
        whole.held_out_loss,
    )
    np.testing.assert_array_equal(again.after, whole.after)
    pairs = zip(again.classifiers, whole.classifiers, strict=True)
    assert all(same_weights(one, other) for one, other in pairs)
    done = cross_fit(folds, STAGE, SETTINGS, lambda *_: pytest.fail("it was done"), Checkpoint(checkpoint.file))
    np.testing.assert_array_equal(done.after, whole.after)
