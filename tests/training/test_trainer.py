"""The training loop: what changes, and reproducible results."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from graft.core.errors import ModelError
from graft.models.classifier import Classifier
from graft.training.checkpoints import Checkpoint
from graft.training.objective import mean_loss
from graft.training.prediction import predict
from graft.training.settings import TrainingSettings
from graft.training.trainable_state import changed_groups
from graft.training.trainer import Training, batches, one_cycle, train_epochs
from tests.support.tiny_training import SETTINGS, STAGE, TASK, labelled, same_weights, untrained


@pytest.fixture(scope="module")
def start() -> Classifier:
    return untrained()


def _run(start: Classifier, settings: TrainingSettings, epochs: int = 3) -> Classifier:
    training = Training(start, STAGE, labelled(32, 0), settings)
    for _ in range(epochs):
        training.run_epoch()
    return training.average


def test_training_learns_and_changes_only_the_stage(start: Classifier) -> None:
    before, val = copy.deepcopy(start), labelled(24, 1)
    trained = _run(start, SETTINGS, 4)
    assert mean_loss(TASK, predict(trained, val), val.targets) < mean_loss(TASK, predict(start, val), val.targets)
    assert changed_groups(start.backbone.spec.groups, start, trained) == ("features.2",)
    assert same_weights(start, before)


def test_the_same_seed_gives_the_same_weights(start: Classifier) -> None:
    torch.manual_seed(5)
    first = _run(start, SETTINGS)
    torch.manual_seed(6)
    assert same_weights(first, _run(start, SETTINGS))
    assert not same_weights(first, _run(start, replace(SETTINGS, seed=1)))


@pytest.mark.parametrize("changes", [{"label_smoothing": 0.1}, {"mixup": 0.4}, {"norms_only": True}])
def test_a_restored_training_is_bit_identical(start: Classifier, changes: dict[str, Any]) -> None:
    settings = replace(SETTINGS, **changes)
    whole = _run(start, settings, 4)
    first = Training(start, STAGE, labelled(32, 0), settings)
    first.run_epoch()
    first.run_epoch()
    state = safetensors.torch.load(safetensors.torch.save(first.state()))
    second = Training(start, STAGE, labelled(32, 0), settings)
    second.restore(state)
    second.run_epoch()
    second.run_epoch()
    assert same_weights(second.average, whole)


def test_training_on_another_device_is_the_same(start: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, before = replace(SETTINGS, label_weights=np.array([0.5, 1.5]), l2_sp=1.0), copy.deepcopy(start)
    here = _run(start, settings)
    # The CPU under another name: everything is copied there, as to a GPU.
    monkeypatch.setattr("graft.training.distributed.training_device", lambda: torch.device("cpu", 0))
    assert same_weights(_run(start, settings), here)
    assert same_weights(start, before)


def test_l2_sp_keeps_the_backbone_near_its_start(start: Classifier) -> None:
    def distance(trained: Classifier) -> float:
        pairs = zip(start.backbone.parameters(), trained.backbone.parameters(), strict=True)
        return sum(float((a - b).detach().norm()) for a, b in pairs)

    free, held = _run(start, SETTINGS), _run(start, replace(SETTINGS, l2_sp=20.0))
    assert 0 < distance(held) < 0.8 * distance(free)


def test_a_loss_that_is_not_finite_is_an_error(start: Classifier) -> None:
    broken = labelled(16, 0)
    broken.source.x[:] = math.nan
    with pytest.raises(ModelError, match=r"the loss is nan in epoch 1 of stage features.2; lower fine_tune.lr"):
        Training(start, STAGE, broken, SETTINGS).run_epoch()


@given(n=st.integers(1, 200), size=st.integers(1, 64), seed=st.integers(0, 3), epoch=st.integers(1, 5))
def test_batches_are_a_permutation_without_an_incomplete_batch(n: int, size: int, seed: int, epoch: int) -> None:
    seen = [batch.tolist() for batch in batches(n, size, seed, epoch)]
    flat = [position for batch in seen for position in batch]
    assert len(flat) == len(set(flat))
    assert set(flat) <= set(range(n))
    assert len(flat) == (n - n % size if n >= size else n)
    assert seen == [batch.tolist() for batch in batches(n, size, seed, epoch)]


def test_one_cycle_rises_and_falls() -> None:
    assert one_cycle(0.0) == pytest.approx(0.1)
    assert one_cycle(0.1) == pytest.approx(1.0)
    assert one_cycle(1.0) == pytest.approx(0.0, abs=1e-9)


def test_training_on_all_images_lowers_the_loss_and_resumes(start: Classifier, tmp_path: Path) -> None:
    images = labelled(48, 0)
    end = train_epochs(start, STAGE, images, SETTINGS, 3)
    assert mean_loss(TASK, predict(end, images), images.targets) < mean_loss(
        TASK, predict(start, images), images.targets
    )
    checkpoint = Checkpoint(tmp_path / "all.safetensors")
    train_epochs(start, STAGE, images, SETTINGS, 2, checkpoint=checkpoint)
    epochs: list[int] = []
    again = train_epochs(start, STAGE, images, SETTINGS, 3, lambda epoch, loss: epochs.append(epoch), checkpoint)
    assert epochs == [3]
    np.testing.assert_array_equal(predict(again, images), predict(end, images))
