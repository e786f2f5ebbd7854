"""Slices: columns, values, order, and that chance is not reported as a weakness."""

import numpy as np
import pandas as pd
import pytest

from graft.evaluation.slices import slices, unsliced


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


def of(values: list[str]) -> set[str]:
    found = slices(pd.DataFrame({"mine": values}), np.ones(len(values), dtype=bool))
    return {one.value for one in found if one.column == "mine"}


def test_numbers_of_a_manifest_are_text_and_sliced_in_quarters() -> None:
    assert of([str(age) for age in range(100)]) == {"0 to 24.75", "24.75 to 49.5", "49.5 to 74.25", "74.25 to 99"}
    assert of([f"{n / 2:.1f}".replace(".", ",") for n in range(80)] + [""] * 8) == {
        *("", "0 to 9.875", "9.875 to 19.75", "19.75 to 29.625", "29.625 to 39.5"),
    }
    assert len(of([f"{n}e-3" for n in range(60)])) == 4
    assert len(of([f"-{n}" for n in range(60)])) == 4
    assert of(["1", "2", "3"] * 8) == {"1", "2", "3"}


@pytest.mark.parametrize("unknown", ["", "NA", "n/a", "nan", "-", "unknown", "?"])
def test_what_is_missing_among_numbers_and_days_is_no_number(unknown: str) -> None:
    assert of([str(age) for age in range(100)] + [unknown] * 6) == {
        *("", "0 to 24.75", "24.75 to 49.5", "49.5 to 74.25", "74.25 to 99"),
    }
    days = [f"2024-{month:02}-{day:02}" for month in (1, 2) for day in range(1, 29)]
    assert of([*days, *[unknown] * 6]) == {"", "2024-01", "2024-02"}


def test_numbers_as_spreadsheets_write_them() -> None:
    assert of([f"{100 * n:,}" for n in range(1, 41)]) == {
        *("100 to 1075", "1075 to 2050", "2050 to 3025", "3025 to 4000"),
    }
    assert of([f"{n} %" for n in range(1, 41)]) == of([f"{n}" for n in range(1, 41)])
    assert of([f"{n:,}.50" for n in range(990, 1030)]) == of([f"{n}.50" for n in range(990, 1030)])


def test_words_for_nothing_are_values_of_a_column_of_words() -> None:
    assert of(["none", "mild", "severe", "unknown"] * 6) == {"none", "mild", "severe", "unknown"}


def test_codes_are_not_numbers() -> None:
    assert of(["007", "010", "100"] * 5 + ["1e", "2"] * 5) == {"007", "010", "100", "1e", "2"}
    assert of(["1-2", "3-4"] * 6) == {"1-2", "3-4"}


@pytest.mark.parametrize(
    "form",
    ["{y}-{m:02}-{d:02}", "{y}/{m}/{d}", "{y}:{m:02}:{d:02} 12:30:00", "{y}-{m:02}-{d:02}T09:00Z", "{d}.{m}.{y}"],
)
def test_days_are_sliced_by_month_and_many_of_them_by_year(form: str) -> None:
    few = [form.format(y=2024, m=m, d=d) for m in (1, 2, 11) for d in range(1, 9)]
    assert of(few) == {"2024-01", "2024-02", "2024-11"}
    many = [form.format(y=y, m=m, d=3) for y in range(2010, 2020) for m in range(1, 13)]
    assert of(many) == {str(y) for y in range(2010, 2020)}


def test_what_cannot_be_sliced_is_said() -> None:
    size = 200
    data = pd.DataFrame(
        {
            "path": "x",
            "name": [f"id{n}" for n in range(size)],
            "camera": "one",
            "rare": [f"v{n}" for n in range(40)] + [f"v{n % 40}" for n in range(160)],
            "age": [str(n) for n in range(size)],
        }
    )
    assert unsliced(data) == {
        "name": "200 different values, more than 50",
        "camera": "all test images have the same value",
    }
    assert unsliced(data.head(40), ["rare", "height"]) == {
        "rare": "no value has 5 test images",
        "height": "there is no such column",
    }
