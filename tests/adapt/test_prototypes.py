"""Prototypes find the classes that bad answers only hint at, and drop those that are not there."""

import numpy as np

from graft.adapt.prototypes import pseudo_labels
from tests.support.features import blobs


def _standardised(features: np.ndarray) -> np.ndarray:
    return (features - features.mean(0)) / features.std(0)


def _noisy(targets: np.ndarray, classes: int, right: float, seed: int = 0) -> np.ndarray:
    """Probabilities whose highest one is right for about this share of the images."""
    generator = np.random.default_rng(seed)
    answer = np.where(generator.random(len(targets)) < right, targets, generator.integers(0, classes, len(targets)))
    return 0.7 * np.eye(classes)[answer] + 0.3 / classes


def test_weak_answers_become_right_ones() -> None:
    features, targets = blobs(300, 40, 4)
    start = _noisy(targets, 4, 0.3)
    assert (start.argmax(1) == targets).mean() < 0.55
    assert (pseudo_labels(_standardised(features), start) == targets).mean() > 0.99


def test_a_class_that_hardly_any_answer_names_is_dropped() -> None:
    features, targets = blobs(200, 30, 2)
    start = np.column_stack([_noisy(targets, 2, 0.6) * 0.98, np.full(200, 0.02)])
    start[:4] = [0.01, 0.01, 0.98]
    found = pseudo_labels(_standardised(features), start)
    assert set(found.tolist()) == {0, 1}
    assert (found == targets).mean() > 0.99


def test_the_order_of_the_images_does_not_matter() -> None:
    features, targets = blobs(120, 20, 3)
    start, order = _noisy(targets, 3, 0.4), np.random.default_rng(1).permutation(120)
    plain = pseudo_labels(_standardised(features), start)
    np.testing.assert_array_equal(pseudo_labels(_standardised(features)[order], start[order]), plain[order])
