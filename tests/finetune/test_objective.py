"""The training loss, the loss that judges results, and which answers are right."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graft.finetune.objective import TrainingLoss, correct, label_weights, mean_loss
from tests.support.tasks import of_classes


def test_the_mean_loss_is_that_of_the_task() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 0.0]], np.float32)
    assert mean_loss(of_classes(2), logits, np.array([0, 1])) == pytest.approx((np.log1p(np.exp(-2)) + np.log(2)) / 2)


def test_the_answer_is_the_most_probable_class() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 1.0]], np.float32)
    assert correct(of_classes(2), logits, np.array([0, 1, 0])).tolist() == [True, True, False]


@given(n=st.integers(2, 20), cut=st.integers(1, 19), weighted=st.booleans(), smoothing=st.sampled_from([0.0, 0.1]))
def test_the_parts_of_a_batch_add_up_to_its_mean(n: int, cut: int, weighted: bool, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(n)
    logits, targets = torch.randn(n, 3, generator=generator), torch.arange(n) % 3
    loss = TrainingLoss(of_classes(3), torch.tensor([0.5, 1.0, 3.0]) if weighted else None, smoothing)
    parts = [part for part in (slice(0, cut), slice(cut, n)) if len(targets[part])]
    total = sum(loss.part_of_mean(logits[part], targets[part], targets.numpy()) for part in parts)
    torch.testing.assert_close(total, loss.mean(logits, targets))


def test_weights_apply_to_the_logits_before_their_correction() -> None:
    logits, targets, shift = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([0.5, 0.0, -0.5])
    weight = torch.tensor([0.5, 1.0, 3.0])
    plain, corrected = TrainingLoss(of_classes(3), weight), TrainingLoss(of_classes(3), weight, 0.0, shift)
    assert corrected.mean(logits + shift, targets).item() == pytest.approx(plain.mean(logits, targets).item())
    whole = corrected.part_of_mean(logits + shift, targets, targets.numpy()).item()
    assert whole == pytest.approx(plain.mean(logits, targets).item())


def test_classes_are_weighted_only_if_they_are_imbalanced() -> None:
    assert label_weights(of_classes(2), np.array([0, 0, 0, 1, 1])) is None, "3 to 2 is roughly balanced"
    weights = label_weights(of_classes(3), np.array([0, 0, 0, 0, 1]))
    assert weights is not None
    np.testing.assert_allclose(weights, [5 / 8, 5 / 2, 5 / 2])
    assert label_weights(of_classes(3), np.array([0, 0, 2, 2])) is None, "a class that is absent does not count"


def test_what_the_head_was_fitted_with_decides_before_the_imbalance_does() -> None:
    imbalanced, balanced = np.array([0, 0, 0, 0, 1]), np.array([0, 0, 1, 1])
    assert label_weights(of_classes(2), imbalanced, weighted=False) is None
    np.testing.assert_allclose(label_weights(of_classes(2), balanced, weighted=True), [1.0, 1.0])
