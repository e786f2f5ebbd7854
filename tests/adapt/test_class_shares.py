"""Class shares of images without labels, where the truth is known."""

import numpy as np
import pytest

from graft.adapt.class_shares import class_shares

PRIOR = np.array([0.25, 0.25, 0.25, 0.25])


def _answers(shares: list[float], apart: float, images: int = 4000) -> np.ndarray:
    """Calibrated answers of a model that was trained with equal shares, to classes so far apart."""
    generator = np.random.default_rng(0)
    targets = generator.choice(len(shares), images, p=shares)
    seen = generator.normal(0, 1, (images, len(shares))) + apart * np.eye(len(shares))[targets]
    likelihood = np.exp(apart * seen)
    return likelihood / likelihood.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shares", [[0.25, 0.25, 0.25, 0.25], [0.6, 0.2, 0.15, 0.05], [0.5, 0.5, 0.0, 0.0]])
def test_doubtful_answers_do_not_hide_how_frequent_the_classes_are(shares: list[float]) -> None:
    found = _answers(shares, apart=1.5)

    def error(estimate: np.ndarray) -> float:
        return float(np.abs(estimate - shares).sum() / 2)

    assert error(class_shares(found, PRIOR, steps=100)) < 0.03
    assert error(class_shares(found, PRIOR)) <= max(0.02, 0.7 * error(found.mean(axis=0)))
    assert class_shares(found, PRIOR).sum() == pytest.approx(1.0)


def test_certain_answers_are_counted() -> None:
    found = np.eye(3)[[0, 0, 0, 1]]
    np.testing.assert_allclose(class_shares(found, np.array([0.2, 0.5, 0.3])), [0.75, 0.25, 0.0], atol=1e-9)


def test_a_class_that_training_did_not_have_stays_absent() -> None:
    found = class_shares(np.full((5, 2), 0.5), np.array([1.0, 0.0]))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, [1.0, 0.0], atol=1e-9)
