"""Intervals: known values, coverage, groups, determinism, speed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from graft.stats.confidence_intervals import (
    bootstrap,
    percentile_interval,
    proportion,
    resamples,
    rows_to_resample,
    wilson,
)


def simulated(size: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes, size)
    logits = generator.normal(size=(size, classes))
    logits[np.arange(size), targets] += 2
    probabilities = np.exp(logits)
    return targets, probabilities / probabilities.sum(axis=1, keepdims=True)


def test_wilson_known_values() -> None:
    # Newcombe, Statistics in Medicine 1998, table I.
    assert wilson(81, 263)[1:] == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20)[1:] == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(29, 29)[1:] == pytest.approx((0.8830, 1.0), abs=5e-5)
    assert np.isnan(wilson(0, 0)).all()


@given(st.integers(0, 10_000), st.integers(1, 10_000), st.floats(0.6, 0.999))
def test_wilson_of_integers_is_that_of_scipy(successes: int, total: int, confidence: float) -> None:
    successes = min(successes, total)
    expected = binomtest(successes, total).proportion_ci(confidence, method="wilson")
    assert wilson(successes, total, confidence)[1:] == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.integers(0, 200), st.integers(1, 200), st.floats(0.6, 0.999))
def test_wilson_contains_its_estimate(successes: int, total: int, confidence: float) -> None:
    value, low, high = wilson(min(successes, total), total, confidence)
    assert 0 <= low <= value <= high <= 1


def test_wilson_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered = [low <= 0.9 <= high for _, low, high in (wilson(k, 80) for k in generator.binomial(80, 0.9, 2000))]
    assert 0.93 <= np.mean(covered) <= 0.975


def test_groups_widen_the_interval_of_a_proportion() -> None:
    hits = np.repeat(np.random.default_rng(0).random(40) < 0.8, 5)
    groups = np.repeat(np.arange(40), 5)
    alone, grouped = proportion(hits), proportion(hits, groups)
    assert grouped.value == alone.value
    assert grouped.high - grouped.low > 1.8 * (alone.high - alone.low)
    assert proportion(hits, np.arange(200)) == alone
    assert proportion(np.ones(200, dtype=bool), groups).low == pytest.approx(wilson(40, 40).low)


def test_resamples_are_stratified_grouped_and_the_same_for_a_seed() -> None:
    groups = np.array(["a", "a", "b", "c", "d", "e", "e", "e"])
    strata = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    weights = np.concatenate(list(resamples(groups, strata, 500, seed=3)))
    assert weights.shape == (500, 8)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 1])
    np.testing.assert_array_equal(weights[:, 5], weights[:, 7])
    np.testing.assert_array_equal(weights[:, [0, 2, 3]].sum(axis=1), 3)
    np.testing.assert_array_equal(weights[:, [4, 5]].sum(axis=1), 2)
    np.testing.assert_array_equal(weights, np.concatenate(list(resamples(groups, strata, 500, seed=3))))
    assert (weights != np.concatenate(list(resamples(groups, strata, 500, seed=4)))).any()
    assert weights.mean() == pytest.approx(1.0, abs=0.05)


def test_bootstrap_of_a_mean_agrees_with_theory() -> None:
    values = np.random.default_rng(0).normal(size=400)
    draws = resamples(np.arange(400), np.zeros(400), 2000, seed=0)

    def mean(weights: np.ndarray | None) -> np.ndarray:
        return (np.ones((1, 400)) if weights is None else weights) @ values / 400

    interval = bootstrap(mean, draws)
    half = 1.96 * values.std() / 20
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.value == pytest.approx(half, rel=0.1)
    assert interval.value - interval.low == pytest.approx(half, rel=0.1)


def test_interval_is_moved_to_its_estimate_when_resamples_are_biased() -> None:
    interval = percentile_interval(0.02, np.linspace(0.05, 0.09, 101))
    assert interval.low <= 0.02 <= interval.high
    assert interval.high - interval.low == pytest.approx(0.038, abs=1e-3)


def test_a_sample_keeps_groups_together_and_strata_in_proportion() -> None:
    strata = np.repeat([0, 1], [24_000, 6_000])
    groups = np.arange(30_000) // 3
    rows, wider = rows_to_resample(groups, strata)
    assert 9_900 <= len(rows) <= 10_100
    assert (strata[rows] == 1).mean() == pytest.approx(0.2, abs=0.01)
    assert (np.bincount(groups[rows])[np.unique(groups[rows])] == 3).all()
    assert wider == pytest.approx(np.sqrt(3), rel=0.01)
    assert rows_to_resample(groups[:9000], strata[:9000])[1] == pytest.approx(1.0, abs=0.001)


def test_the_interval_of_few_groups_is_widened_as_students_is() -> None:
    rows, wider = rows_to_resample(np.repeat(np.arange(10), 50), np.repeat([0, 1], 250))
    assert len(rows) == 500
    assert 1 / wider == pytest.approx(np.sqrt(10 / 8) * 2.306 / 1.960, rel=1e-3)
