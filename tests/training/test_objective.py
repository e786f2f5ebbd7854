"""The training loss, the loss that judges results, and which answers are right."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graft.training.objective import (
    TrainingLoss,
    best_temperature,
    correct,
    cross_calibrated,
    label_weights,
    mean_loss,
)
from tests.support.tasks import of_classes


def test_the_mean_loss_is_that_of_the_task() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 0.0]], np.float32)
    assert mean_loss(of_classes(2), logits, np.array([0, 1])) == pytest.approx((np.log1p(np.exp(-2)) + np.log(2)) / 2)


def test_the_answer_is_the_most_probable_class() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 1.0]], np.float32)
    assert correct(of_classes(2), logits, np.array([0, 1, 0])).tolist() == [True, True, False]


def noisy_logits(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    targets = np.arange(n) % 3
    noise = np.random.default_rng(seed).normal(size=(n, 3))
    return (2 * np.eye(3)[targets] + noise).astype(np.float32), targets


def test_at_the_best_temperature_any_other_is_worse() -> None:
    logits, targets = noisy_logits(120, 0)
    best = best_temperature(of_classes(3), logits, targets)
    least = mean_loss(of_classes(3), logits / best, targets)
    assert all(mean_loss(of_classes(3), logits / (best * factor), targets) > least for factor in (0.9, 1.1))
    assert best_temperature(of_classes(3), 5 * logits, targets) == pytest.approx(5 * best, rel=5e-3)


def test_an_image_is_calibrated_by_others() -> None:
    (logits, targets), groups = noisy_logits(60, 1), np.array([f"g{n // 3}" for n in range(60)], dtype=object)
    found = cross_calibrated(of_classes(3), logits, targets, groups)
    ratio = (logits / found)[:, 0]
    assert all(np.ptp(ratio[groups == group]) < 1e-4 for group in groups), "one temperature for a whole group"
    assert len(np.unique(ratio.round(4))) == 5
    targets[:3] = (targets[:3] + 1) % 3
    changed = cross_calibrated(of_classes(3), logits, targets, groups)
    np.testing.assert_array_equal(changed[:3], found[:3])
    order = np.random.default_rng(0).permutation(60)
    again = cross_calibrated(of_classes(3), logits[order], targets[order], groups[order])
    np.testing.assert_allclose(again, changed[order], rtol=1e-6)


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
