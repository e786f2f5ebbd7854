"""The learning curve: subsets as stated, and advice no stronger than the curve."""

import numpy as np

from graft.evaluation.learning_curve import LearningPoint, advice, learning_curve, stratified_order
from tests.support.tasks import of_classes


def centroids(features: np.ndarray, targets: np.ndarray):
    means = np.stack([features[targets == label].mean(axis=0) for label in range(targets.max() + 1)])
    return lambda tested: -((tested[:, None] - means) ** 2).sum(axis=2)


def clusters(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    targets = np.arange(size) % 3
    centres = np.random.default_rng(9).normal(size=(3, 40)) * 0.35
    return centres[targets] + np.random.default_rng(seed).normal(size=(size, 40)), targets


def test_accuracy_grows_and_is_the_same_for_a_seed() -> None:
    train, test = clusters(240, 0), clusters(300, 1)
    curve = learning_curve(*train, np.arange(240), *test, centroids, of_classes(3))
    assert [point.images for point in curve] == [24, 48, 96, 168, 240]
    assert curve[-1].accuracy > curve[0].accuracy + 0.05
    assert all(point.low <= point.accuracy <= point.high for point in curve)
    assert curve == learning_curve(*train, np.arange(240), *test, centroids, of_classes(3))
    assert curve != learning_curve(*train, np.arange(240), *test, centroids, of_classes(3), seed=1)


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
    assert [point.images for point in curve] == [9]
    assert advice(curve) == "Too few images to say whether more of them would help."


def test_advice() -> None:
    rising = [LearningPoint(100, 0.80, 0.78, 0.82), LearningPoint(200, 0.88, 0.88, 0.88)]
    assert advice(rising) == (
        "From 100 to 200 training images the accuracy went from 80.0 to 88.0 %: still rising by 8.0 points, so "
        "labelling more should help."
    )
    flat = [LearningPoint(100, 0.90, 0.87, 0.93), LearningPoint(200, 0.91, 0.91, 0.91)]
    assert advice(flat).endswith("no more than it varies between draws of 100: more images would help little.")
