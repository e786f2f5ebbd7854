"""Curves against scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics as reference

from graft.stats.curves import confusion_order, precision_recall, reliability, roc


@pytest.fixture(params=[3, 1000], ids=["tied", "distinct"])
def problem(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    positive = generator.random(80) < 0.4
    return positive, np.round(generator.random(80) * request.param + positive) / request.param


def test_roc(problem: tuple[np.ndarray, np.ndarray]) -> None:
    for ours, theirs in zip(roc(*problem), reference.roc_curve(*problem, drop_intermediate=False), strict=True):
        np.testing.assert_allclose(ours, theirs)


def test_precision_recall(problem: tuple[np.ndarray, np.ndarray]) -> None:
    precision, recall, thresholds = reference.precision_recall_curve(*problem)
    ours = precision_recall(*problem)
    np.testing.assert_allclose(ours.precision[::-1], precision[:-1])
    np.testing.assert_allclose(ours.recall[::-1], recall[:-1])
    np.testing.assert_allclose(ours.thresholds[::-1], thresholds)


def test_reliability_counts_every_image_once() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet([0.4] * 4, 300)
    targets = generator.integers(0, 4, 300)
    confidence, right, images = reliability(targets, probabilities)
    assert sum(images) == 300
    hits = sum(rate.value * count for rate, count in zip(right, images, strict=True))
    assert hits / 300 == pytest.approx((probabilities.argmax(axis=1) == targets).mean())
    assert np.average(confidence, weights=images) == pytest.approx(probabilities.max(axis=1).mean())


def test_confused_classes_stand_side_by_side() -> None:
    matrix = np.diag([50] * 6)
    matrix[0, 4] = matrix[4, 0] = 20
    matrix[2, 5] = 15
    order = confusion_order(matrix)
    assert sorted(order) == list(range(6))
    assert abs(order.index(0) - order.index(4)) == 1
    assert abs(order.index(2) - order.index(5)) == 1
    assert confusion_order(np.eye(2, dtype=np.int64)) == [0, 1]
