"""LogME against the evidence that it computes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.heads.logme import logme


def _data(n: int, d: int, signal: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = np.arange(n) % 3
    return generator.normal(size=(n, d)) + signal * np.eye(3, d)[targets], targets


def test_it_is_the_largest_evidence_over_both_precisions() -> None:
    x, targets = _data(60, 5, 1.0)
    y = (targets == 0).astype(float)
    best = -np.inf
    for log_alpha in np.linspace(-4, 8, 61):
        for log_beta in np.linspace(-2, 6, 61):
            alpha, beta = np.exp(log_alpha), np.exp(log_beta)
            covariance = np.eye(60) / beta + x @ x.T / alpha  # of the labels, weights integrated out
            _, determinant = np.linalg.slogdet(covariance)
            value = -0.5 * (y @ np.linalg.solve(covariance, y) + determinant + 60 * np.log(2 * np.pi))
            best = max(best, value / 60)
    only_first = logme(x, np.where(targets == 0, 0, 1), 1)
    assert only_first == pytest.approx(best, abs=0.01)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 100), d=st.integers(3, 80))
def test_informative_features_are_preferred(seed: int, d: int) -> None:
    noise, targets = _data(60, d, 0.0, seed)
    signal, _ = _data(60, d, 4.0, seed)
    assert logme(signal, targets, 3) > logme(noise, targets, 3)


def test_a_class_that_is_absent_does_not_matter() -> None:
    x, targets = _data(30, 4, 1.0)
    assert logme(x, targets, 5) == pytest.approx(logme(x, targets, 3))
