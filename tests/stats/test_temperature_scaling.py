"""Temperature scaling: finds the truth, never harms validation, keeps every answer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.stats.metrics import ece, log_loss, softmax
from graft.stats.temperature_scaling import fit_temperature


def drawn(size: int, classes: int, temperature: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose probabilities are right at the temperature."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(size, classes)) * 3
    probabilities = softmax(logits, temperature)
    targets = (generator.random(size)[:, None] > np.cumsum(probabilities, axis=1)).sum(axis=1)
    return logits.astype(np.float32), np.minimum(targets, classes - 1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_it_finds_the_temperature_that_made_the_labels(temperature: float) -> None:
    logits, targets = drawn(6000, 4, temperature, seed=0)
    assert fit_temperature(logits, targets) == pytest.approx(temperature, rel=0.08)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(2, 5), st.floats(0.1, 5), st.integers(0, 1000))
def test_it_never_raises_the_log_loss_it_was_fitted_on(size: int, classes: int, temperature: float, seed: int) -> None:
    logits, targets = drawn(size, classes, temperature, seed)
    found = fit_temperature(logits, targets)
    before = log_loss(targets, softmax(logits))[0]
    assert log_loss(targets, softmax(logits, found))[0] <= before + 1e-12
    np.testing.assert_array_equal(softmax(logits, found).argmax(axis=1), logits.argmax(axis=1))


def test_it_lowers_the_calibration_error_of_overconfident_answers_on_other_images() -> None:
    logits, targets = drawn(2000, 5, 3.0, seed=1)
    temperature = fit_temperature(logits[:1000], targets[:1000])
    before = ece(targets[1000:], softmax(logits[1000:]))[0]
    assert ece(targets[1000:], softmax(logits[1000:], temperature))[0] < before / 3


def test_a_perfect_small_validation_split_does_not_make_it_certain() -> None:
    logits = np.tile([[2.0, 0.0], [0.0, 2.0]], (10, 1))
    targets = np.tile([0, 1], 10)
    assert softmax(logits, fit_temperature(logits, targets)).max() < 0.97


def test_it_stops_where_softening_would_raise_the_log_loss() -> None:
    logits, targets = drawn(12, 3, 1.3, seed=15)
    found = fit_temperature(logits, targets)
    unscaled = log_loss(targets, softmax(logits))[0]
    assert found > 1.05
    assert log_loss(targets, softmax(logits, found))[0] == pytest.approx(unscaled, abs=1e-9)
    assert log_loss(targets, softmax(logits, found * 1.01))[0] > unscaled


def test_no_images_leave_the_logits_alone() -> None:
    assert fit_temperature(np.zeros((0, 3), dtype=np.float32), np.zeros(0, dtype=np.int64)) == 1.0
