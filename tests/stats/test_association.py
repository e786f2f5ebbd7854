"""Cramer's V: known values, and an interval that contains the truth."""

import numpy as np
import pytest
from scipy.stats.contingency import association

from graft.stats.association import cramers_v


def test_as_scipy() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 4, 500)
    second = np.where(rng.random(500) < 0.4, first % 3, rng.integers(0, 3, 500))
    table = np.zeros((4, 3), int)
    np.add.at(table, (first, second), 1)
    found = cramers_v(first, second, np.arange(500))
    assert found.interval.value == pytest.approx(association(table, method="cramer"))
    assert found.interval.low < found.interval.value < found.interval.high < 1
    assert not found.determined


def test_one_determines_the_other() -> None:
    first = np.arange(100) % 4
    found = cramers_v(first, first // 2, np.arange(100))
    assert found.interval.value == pytest.approx(1.0)
    assert found.determined
    assert not cramers_v(first, np.zeros(100, np.int64), np.arange(100)).determined
