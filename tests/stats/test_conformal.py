"""Prediction sets: coverage as stated, however wrong the probabilities are."""

import numpy as np
import pytest

from graft.stats.conformal import covers, fit_quantile, is_ambiguous, prediction_sets
from graft.stats.metrics import softmax


def simulated(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 6, size)
    logits = generator.normal(size=(size, 6)) * 1.5
    logits[np.arange(size), targets] += 2.0
    return softmax(logits), targets


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_coverage_over_twenty_splits_is_within_its_binomial_interval(coverage: float) -> None:
    held = total = 0
    for seed in range(20):
        probabilities, targets = simulated(500, seed)
        quantile = fit_quantile(probabilities[:200], targets[:200], coverage)
        held += int(covers(prediction_sets(probabilities[200:], quantile), targets[200:]).sum())
        total += 300
    # Test images of one split share its quantile, whose own spread is that of a Beta(k, n + 1 - k).
    spread = np.sqrt(coverage * (1 - coverage) * (1 / total + 1 / (20 * 200)))
    assert abs(held / total - coverage) < 2.6 * spread + 1 / 201


def test_coverage_holds_for_probabilities_that_are_wrong() -> None:
    probabilities, targets = simulated(4000, 0)
    wrong = probabilities**4 / (probabilities**4).sum(axis=1, keepdims=True)
    quantile = fit_quantile(wrong[:2000], targets[:2000], 0.9)
    assert covers(prediction_sets(wrong[2000:], quantile), targets[2000:]).mean() == pytest.approx(0.9, abs=0.02)


def test_too_few_images_give_the_set_of_all_classes() -> None:
    probabilities, targets = simulated(8, 0)
    assert fit_quantile(probabilities, targets, 0.9) == 1.0
    assert prediction_sets(probabilities, 1.0).all()
    assert fit_quantile(probabilities[:0], targets[:0], 0.9) == 1.0


def test_nine_images_are_enough_for_ninety_per_cent() -> None:
    probabilities, targets = simulated(9, 0)
    quantile = fit_quantile(probabilities, targets, 0.9)
    assert quantile == pytest.approx((1 - probabilities[np.arange(9), targets]).max())
    assert covers(prediction_sets(probabilities, quantile), targets).all()


def test_an_answer_is_ambiguous_unless_one_class_is_left() -> None:
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5], [0.62, 0.38]])
    sets = prediction_sets(probabilities, 0.3)
    assert sets.tolist() == [[True, False], [False, False], [False, False]]
    assert is_ambiguous(sets).tolist() == [False, True, True]
    assert is_ambiguous(prediction_sets(probabilities, 0.55)).tolist() == [False, True, False]


def test_higher_coverage_makes_larger_sets() -> None:
    probabilities, targets = simulated(600, 3)
    quantiles = [fit_quantile(probabilities, targets, level) for level in (0.7, 0.8, 0.9, 0.99)]
    assert quantiles == sorted(quantiles)
