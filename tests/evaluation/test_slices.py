"""Slices: columns, values, order, and that chance is not reported as a weakness."""

import numpy as np
import pandas as pd
import pytest

from graft.evaluation.slices import slices


def table(size: int = 200) -> pd.DataFrame:
    at = np.arange(size)
    return pd.DataFrame(
        {
            "group": at,
            "format": "JPEG",
            "domain": np.where(at % 4 == 0, "sketch", "photo"),
            "width": 100 + at,
            "height": 1000,
            "camera": np.where(at % 3 == 0, "a", "b"),
            "serial": [f"id{i}" for i in at],
        }
    )


def test_the_weak_slice_comes_first_with_its_p_value() -> None:
    data = table()
    right = np.ones(200, dtype=bool)
    right[np.random.default_rng(0).permutation(np.flatnonzero(data["domain"] == "sketch"))[:20]] = False
    worst, *others = slices(data, right)
    assert (worst.column, worst.value, worst.images, worst.correct) == ("domain", "sketch", 50, 30)
    assert worst.accuracy.value == pytest.approx(0.6)
    assert worst.p_value < 0.001
    assert {one.column for one in others} == {"domain", "camera", "shorter side"}
    assert all(one.p_value > 0.05 for one in others)
    assert sum(one.images for one in others if one.column == "shorter side") == 200


def test_columns_can_be_chosen_and_numbers_are_bucketed() -> None:
    data = table()
    found = slices(data, np.arange(200) % 5 > 0, columns=["width", "nothing"])
    assert [one.column for one in found] == ["width"] * 4
    assert sorted(one.images for one in found) == [50] * 4


def test_chance_alone_is_rarely_flagged() -> None:
    data = table()
    generator = np.random.default_rng(0)
    flagged = sum(min(one.p_value for one in slices(data, generator.random(200) < 0.85)) < 0.05 for _ in range(60))
    assert flagged <= 6


def test_small_slices_missing_values_and_constant_columns() -> None:
    data = table(12).assign(camera=["x"] * 3 + [None] * 9, domain="")
    found = slices(data, np.ones(12, dtype=bool))
    assert ("camera", "") in {(one.column, one.value) for one in found} or not [
        o for o in found if o.column == "camera"
    ]
    assert "domain" not in {one.column for one in found}
    assert "x" not in {one.value for one in found}
