"""A stage on folds: trained epoch by epoch, judged together, resumed after an interruption."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graft.finetune.checkpoints import Checkpoint
from graft.finetune.cross_fitting import Fold, cross_fit
from graft.finetune.prediction import predict
from graft.finetune.stage_plan import Stage
from graft.finetune.stage_selection import Comparison
from tests.support.tiny_training import SETTINGS, STAGE, labelled, misleading, same_weights, three_folds, untrained


@pytest.fixture(scope="module")
def folds() -> list[Fold]:
    return three_folds(untrained(), labelled(48, 0))


def test_every_image_is_predicted_by_a_model_that_has_not_seen_it(folds: list[Fold]) -> None:
    epochs: list[tuple[int, float, float]] = []
    fitted = cross_fit(folds, STAGE, SETTINGS, lambda *epoch: epochs.append(epoch))
    assert [epoch for epoch, _, _ in epochs] == [1, 2, 3, 4]
    selection = fitted.selection
    assert selection.loss == min(fitted.held_out_loss) < selection.loss_before
    assert fitted.held_out_loss[fitted.best_epoch - 1] == selection.loss
    for number, (fold, classifier) in enumerate(zip(folds, fitted.classifiers, strict=True)):
        rows = slice(16 * number, 16 * number + 16)
        np.testing.assert_array_equal(predict(classifier, fold.held_out), selection.after[rows])


@pytest.mark.parametrize("promising", [False, True])
def test_patience_counts_once_the_rate_has_fallen_or_nothing_is_in_reach(
    folds: list[Fold], monkeypatch: pytest.MonkeyPatch, *, promising: bool
) -> None:
    long = Stage(STAGE.groups, epochs=10, lr=0.02)
    trained = cross_fit(folds, STAGE, SETTINGS).classifiers
    sure = [Fold(end, fold.train, fold.held_out) for end, fold in zip(trained, folds, strict=True)]
    if promising:
        monkeypatch.setattr(Comparison, "on_the_way", lambda self, images, tried: True)
    fitted = cross_fit(misleading(sure), long, replace(SETTINGS, patience=2))
    assert fitted.best_epoch < 5, "whatever is learnt is wrong on what is held out"
    waited = 5 if promising else fitted.best_epoch  # the rate is low from the sixth epoch on
    assert len(fitted.held_out_loss) == waited + 2


def test_predictions_that_are_known_are_not_made_again(folds: list[Fold], monkeypatch: pytest.MonkeyPatch) -> None:
    before = cross_fit(folds, STAGE, SETTINGS).selection.before
    known = [replace(fold, before=part) for fold, part in zip(folds, np.split(before, 3), strict=True)]
    monkeypatch.setattr("graft.finetune.cross_fitting.predictions", lambda classifiers, folds: before)
    monkeypatch.setattr("graft.finetune.cross_fitting.predict", lambda *_: pytest.fail("the start is known"))
    fitted = cross_fit(known, STAGE, SETTINGS)
    np.testing.assert_array_equal(fitted.selection.before, before)


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
    np.testing.assert_array_equal(again.selection.after, whole.selection.after)
    np.testing.assert_array_equal(again.selection.judged(), whole.selection.judged())
    assert again.selection.comparison() == whole.selection.comparison()
    pairs = zip(again.classifiers, whole.classifiers, strict=True)
    assert all(same_weights(one, other) for one, other in pairs)
    done = cross_fit(folds, STAGE, SETTINGS, lambda *_: pytest.fail("it was done"), Checkpoint(checkpoint.file))
    np.testing.assert_array_equal(done.selection.after, whole.selection.after)
