"""The learning curve: subsets as stated, and advice no stronger than the curve."""

from typing import Any

import numpy as np
import pytest

from graft.evaluation.learning_curve import (
    SizeResult,
    advice,
    gain_of_doubling,
    learning_curve,
    stratified_order,
)
from tests.support.tasks import of_classes

SIZES = (100, 200, 400, 700, 1000)


def centroids(*_: Any):
    def fit(features: np.ndarray, targets: np.ndarray):
        means = np.stack([features[targets == label].mean(axis=0) for label in range(targets.max() + 1)])
        return lambda tested: -((tested[:, None] - means) ** 2).sum(axis=2)

    return fit


def clusters(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    targets = np.arange(size) % 3
    centres = np.random.default_rng(9).normal(size=(3, 40)) * 0.35
    return centres[targets] + np.random.default_rng(seed).normal(size=(size, 40)), targets


def accuracies(curve: list[SizeResult]) -> list[tuple[float, ...]]:
    return [tuple(size.point) for size in curve]


def test_accuracy_grows_and_is_the_same_for_a_seed() -> None:
    train, test = clusters(240, 0), clusters(300, 1)
    curve = learning_curve(*train, np.arange(240), *test, centroids, of_classes(3))
    assert [size.images for size in curve] == [24, 48, 96, 168, 240]
    assert [len(size.right) for size in curve] == [3, 3, 3, 3, 1]
    points = [size.point for size in curve]
    assert points[-1].accuracy > points[0].accuracy + 0.05
    assert all(point.low <= point.accuracy <= point.high for point in points)
    assert accuracies(learning_curve(*train, np.arange(240), *test, centroids, of_classes(3))) == accuracies(curve)
    other = learning_curve(*train, np.arange(240), *test, centroids, of_classes(3), seed=1)
    assert accuracies(other) != accuracies(curve)


def test_every_size_chooses_once_on_its_own_images() -> None:
    chosen = []

    def learner(features: np.ndarray, targets: np.ndarray, groups: np.ndarray):
        chosen.append(len(features))
        assert len(features) == len(targets) == len(groups)
        return centroids()

    train, test = clusters(240, 0), clusters(30, 1)
    learning_curve(*train, np.arange(240), *test, learner, of_classes(3))
    assert chosen == [24, 48, 96, 168, 240]


def test_every_prefix_is_stratified_and_keeps_groups_together() -> None:
    targets = np.repeat([0, 0, 0, 1], 30)
    groups = np.arange(120) // 3
    order = stratified_order(targets, groups, np.random.default_rng(0))
    assert sorted(order) == list(range(120))
    assert 3 <= (targets[order[:24]] == 1).sum() <= 9
    np.testing.assert_array_equal(groups[order].reshape(40, 3).std(axis=1), 0)


def test_subsets_without_every_class_are_left_out() -> None:
    features, targets = clusters(9, 0)
    curve = learning_curve(
        features, targets, np.arange(9), features, targets, centroids, of_classes(3), fractions=(0.1, 1.0)
    )
    assert [size.images for size in curve] == [9]
    assert advice(curve, np.arange(9)) == "Too few images to say whether more of them would help."


def power_law(
    floor: float, scale: float, exponent: float, tested: int, seed: int, per_group: int = 1
) -> list[SizeResult]:
    """A curve whose error is floor + scale * (n / 1000)^-exponent, scattered between draws by half a point."""
    generator = np.random.default_rng(seed)
    difficulty = np.repeat(generator.random(tested // per_group), per_group)
    curve = []
    for size in SIZES:
        draws = 1 if size == SIZES[-1] else 3
        errors = floor + scale * (size / SIZES[-1]) ** -exponent + generator.normal(0, 0.005, draws)
        curve.append(SizeResult(size, difficulty >= errors[:, None]))
    return curve


@pytest.mark.parametrize(
    ("law", "verdict"),
    [((0.02, 0.15, 0.6), "label more"), ((0.08, 0.0, 0.5), "help little"), ((0.05, 0.03, 0.5), "cannot tell")],
)
def test_advice_knows_a_steep_law_from_a_flat_one_and_says_when_it_cannot_tell(
    law: tuple[float, float, float], verdict: str
) -> None:
    found = [advice(power_law(*law, tested=1000, seed=seed), np.arange(1000)) for seed in range(20)]
    assert sum(verdict in text for text in found) >= 14, found


@pytest.mark.parametrize("per_group", [1, 10])
def test_the_interval_holds_the_gain_of_a_known_power_law(per_group: int) -> None:
    floor, scale, exponent = 0.05, 0.1, 0.5
    true = scale * (1 - 2**-exponent)
    hits = 0
    for seed in range(60):
        curve = power_law(floor, scale, exponent, 800, seed, per_group)
        gain = gain_of_doubling(curve, np.arange(800) // per_group, seed)
        assert gain is not None
        hits += gain.low <= true <= gain.high
    assert hits >= 52, f"95 % intervals hold the truth in {hits} of 60"
