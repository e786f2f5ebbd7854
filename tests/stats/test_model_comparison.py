"""Paired comparisons: known p-values, false alarms, power, and what is reported without a detectable difference."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest

from graft.stats.metrics import METRICS
from graft.stats.model_comparison import compare, matched_proportions, mcnemar, non_inferior

ACCURACY = {"accuracy": METRICS["accuracy"]}


def one_hot(right: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.eye(2)[np.where(right, targets, 1 - targets)] * 0.8 + 0.1


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 0), (1, 9), (12, 7), (8, 8), (400, 320)])
def test_mcnemar_counts_the_fair_coins_at_least_as_uneven(gained: int, lost: int) -> None:
    total = gained + lost
    uneven = sum(comb(total, heads) for heads in range(total + 1) if abs(2 * heads - total) >= abs(gained - lost))
    assert mcnemar(gained, lost) == pytest.approx(float(Fraction(uneven, 2**total)), rel=1e-12)


def test_same_predictions_show_no_difference_but_do_not_prove_equality() -> None:
    targets = np.arange(50) % 2
    model = one_hot(np.arange(50) > 4, targets)
    found = compare(targets, model, model, metrics=ACCURACY, count=200)
    assert found.outcome == "no detectable difference"
    assert found.differences["accuracy"].low < 0 < found.differences["accuracy"].high
    assert not non_inferior(found, 0.01)
    assert non_inferior(found, 0.1)


def test_a_clear_difference_is_named_in_both_directions() -> None:
    targets = np.arange(300) % 2
    good, bad = one_hot(np.arange(300) >= 15, targets), one_hot(np.arange(300) >= 75, targets)
    found = compare(targets, good, bad, count=300)
    assert found.outcome == "better"
    assert found.differences["accuracy"].value == pytest.approx(0.2)
    assert found.differences["log_loss"].high < 0
    assert (found.only_first_right, found.only_second_right) == (60, 0)
    assert compare(targets, bad, good, metrics=ACCURACY, count=300).outcome == "worse"


def test_equal_models_are_rarely_called_different() -> None:
    generator = np.random.default_rng(0)
    targets = np.arange(150) % 2
    alarms = 0
    for _ in range(100):
        first, second = (one_hot(generator.random(150) < 0.9, targets) for _ in range(2))
        alarms += compare(targets, first, second, metrics=ACCURACY, count=100).outcome != "no detectable difference"
    assert alarms <= 5


def test_one_group_does_not_count_as_many_images() -> None:
    targets = np.arange(200) % 2
    groups = np.where(np.arange(200) < 10, 0, np.arange(200))
    first, second = np.ones(200, dtype=bool), np.arange(200) >= 10
    alone = compare(targets, one_hot(first, targets), one_hot(second, targets), metrics=ACCURACY, count=300)
    grouped = compare(targets, one_hot(first, targets), one_hot(second, targets), groups, metrics=ACCURACY, count=300)
    assert alone.outcome == "better"
    assert grouped.outcome == "no detectable difference"


def test_matched_proportions_known_value() -> None:
    # Agresti and Min 2005, section 2: n = 1600 approval ratings, 86 and 150 changed.
    value, low, high = matched_proportions(150, 86, 1600)
    assert value == pytest.approx(0.04)
    assert (low, high) == pytest.approx((0.021, 0.059), abs=1e-3)
