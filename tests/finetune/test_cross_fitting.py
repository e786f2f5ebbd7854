"""A stage on folds: in step, judged together, taken up where it was cut off."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from graft.finetune.checkpoints import Checkpoint
from graft.finetune.cross_fitting import CrossFitted, Fold, cross_fit, train_through
from graft.finetune.stage_plan import Stage
from graft.finetune.stage_selection import judge, veto
from graft.finetune.trainer import Labelled, mean_loss, predict
from graft.finetune.wise_ft import best_share, blended
from graft.models.classifier import Classifier
from tests.support.tiny_training import SETTINGS, STAGE, labelled, untrained


@pytest.fixture(scope="module")
def start() -> Classifier:
    return untrained()


@pytest.fixture(scope="module")
def images() -> Labelled:
    return labelled(48, 0)


@pytest.fixture(scope="module")
def folds(start: Classifier, images: Labelled) -> list[Fold]:
    rows = np.arange(48)
    return [Fold(start, images.some(rows[rows % 3 != k]), images.some(rows[rows % 3 == k])) for k in range(3)]


def lying(folds: list[Fold]) -> list[Fold]:
    """Whatever is learnt is wrong on what is held out."""
    held = [fold.held_out for fold in folds]
    lies = [Labelled(images.images, 1 - images.targets, images.rows) for images in held]
    return [Fold(fold.start, fold.train, lie) for fold, lie in zip(folds, lies, strict=True)]


def test_every_image_is_predicted_by_a_model_that_has_not_seen_it(folds: list[Fold]) -> None:
    told: list[tuple[int, float, float]] = []
    fitted = cross_fit(folds, STAGE, SETTINGS, lambda *epoch: told.append(epoch))
    assert [epoch for epoch, _, _ in told] == [1, 2, 3, 4]
    assert fitted.loss == min(fitted.held_out_loss) < fitted.start_loss
    assert fitted.held_out_loss[fitted.best_epoch - 1] == fitted.loss
    for number, (fold, classifier) in enumerate(zip(folds, fitted.classifiers, strict=True)):
        np.testing.assert_array_equal(predict(classifier, fold.held_out), fitted.after[16 * number : 16 * number + 16])


def test_patience_ends_it_and_the_start_is_kept_where_no_epoch_is_better(folds: list[Fold]) -> None:
    long = Stage(STAGE.groups, epochs=30, lr=0.02)
    trained = cross_fit(folds, STAGE, SETTINGS).classifiers
    sure = [Fold(end, fold.train, fold.held_out) for end, fold in zip(trained, folds, strict=True)]
    fitted = cross_fit(lying(sure), long, replace(SETTINGS, patience=2))
    assert len(fitted.held_out_loss) == fitted.best_epoch + 2
    if fitted.best_epoch == 0:
        np.testing.assert_array_equal(fitted.after, fitted.before)


class CutError(Exception):
    """The power is off."""


@pytest.mark.parametrize("at", [1, 3, 4])
def test_cut_off_at_any_epoch_it_ends_the_same(folds: list[Fold], tmp_path: Path, at: int) -> None:
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
    for one, other in zip(again.classifiers, whole.classifiers, strict=True):
        pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    done = cross_fit(folds, STAGE, SETTINGS, lambda *_: pytest.fail("it was done"), Checkpoint(checkpoint.file))
    np.testing.assert_array_equal(done.after, whole.after)


def test_a_torn_checkpoint_is_none(tmp_path: Path) -> None:
    file = tmp_path / "folds.safetensors"
    file.write_bytes(b"half a checkp")
    assert Checkpoint(file).read() is None


def test_a_checkpoint_comes_at_most_so_often_unless_it_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 2.0, 5.0, 6.0, 7.0, 40.0, 41.0])  # the first takes 2 s: the next not before 22
    monkeypatch.setattr("graft.finetune.checkpoints.time.monotonic", lambda: next(now))
    checkpoint = Checkpoint(tmp_path / "one.safetensors")

    def kept(number: int, *, due: bool = False) -> int:
        checkpoint.write(lambda: {"number": torch.tensor(number)}, due=due)
        found = checkpoint.read()
        assert found
        return int(found["number"])

    assert kept(1) == 1
    assert kept(2) == 1
    assert kept(3, due=True) == 3
    assert kept(4) == 4


def test_all_images_are_trained_on_for_as_long_as_the_folds_say(
    start: Classifier, images: Labelled, tmp_path: Path
) -> None:
    end = train_through(start, STAGE, images, SETTINGS, 3)
    assert mean_loss(predict(end, images), images.targets) < mean_loss(predict(start, images), images.targets)
    checkpoint = Checkpoint(tmp_path / "all.safetensors")
    train_through(start, STAGE, images, SETTINGS, 2, checkpoint=checkpoint)
    again = train_through(start, STAGE, images, SETTINGS, 3, checkpoint=checkpoint)
    np.testing.assert_array_equal(predict(again, images), predict(end, images))


def test_weights_between_start_and_end(start: Classifier, folds: list[Fold]) -> None:
    fitted = cross_fit(folds, STAGE, SETTINGS)
    end = fitted.classifiers[0]
    for share, same in ((0.0, start), (1.0, end)):
        pairs = zip(blended(start, end, STAGE, share).state_dict().values(), same.state_dict().values(), strict=True)
        assert all(torch.allclose(a, b) for a, b in pairs if a.is_floating_point())
    share, best = best_share(folds, fitted, STAGE)
    assert best.loss <= fitted.loss
    assert share in (0.25, 0.5, 0.75, 1.0)
    worse = cross_fit(lying(folds), Stage(STAGE.groups, 1, 0.05), SETTINGS)
    if worse.best_epoch:
        assert best_share(lying(folds), worse, STAGE)[1].loss <= worse.loss


def _fitted(before: np.ndarray, after: np.ndarray, targets: np.ndarray, best_epoch: int = 1) -> CrossFitted:
    before, after = before.astype(np.float32), after.astype(np.float32)
    return CrossFitted((), before, after, targets, best_epoch, (0.1,), (0.1,))


@pytest.mark.parametrize(
    ("sharper", "best_epoch", "kept", "reason"),
    [
        (3.0, 1, True, "kept; validation images: log loss"),
        (1.001, 1, False, "no clear gain"),
        (3.0, 0, False, "no epoch"),
    ],
)
def test_a_stage_is_judged_by_the_paired_difference(sharper: float, best_epoch: int, kept: bool, reason: str) -> None:
    generator = np.random.default_rng(0)
    targets = np.arange(60) % 2
    before = np.stack([-(2.0 * targets - 1), 2.0 * targets - 1], axis=1) + generator.normal(0, 0.2, (60, 2))
    noise = generator.normal(0, 0.3, (60, 1)) if sharper < 2 else 0.0
    found = judge(_fitted(before, before * (sharper + noise), targets, best_epoch), "validation images", asked=False)
    assert found[0] == kept
    assert reason in found[1]


def test_a_stage_that_gets_more_wrong_is_not_kept() -> None:
    targets = np.arange(60) % 2
    before = 0.1 * np.stack([-(2.0 * targets - 1), 2.0 * targets - 1], axis=1)
    after = 40 * before
    after[0] = after[0][::-1] * 0.01
    kept, reason = judge(_fitted(before, after, targets), "validation images", asked=True)
    assert not kept
    assert "right 60 -> 59 of 60" in reason
    assert veto(before.astype(np.float32), after.astype(np.float32), targets, "kept; x")[0] is False
    kept, reason = veto(before.astype(np.float32), 2 * before.astype(np.float32), targets, "kept; x")
    assert kept
    assert reason.startswith("kept; x; validation: log loss")
