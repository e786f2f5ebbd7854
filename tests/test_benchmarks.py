"""The benchmarks' own arithmetic, and that the page is what the numbers say."""

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import MODULES, NUMBERS, PAGE
from benchmarks.measure import Spread, at_least, at_most, in_turn, ratio, save
from benchmarks.table import TITLES, write_table


def test_candidates_run_in_turn_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []
    seconds = in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert [len(values) for values in seconds.values()] == [2, 2]


def test_ratios_are_of_the_same_round() -> None:
    assert ratio([2.0, 40.0, 9.0], [1.0, 10.0, 3.0]) == Spread(3.0, 2.5, 3.5)
    assert Spread.of([4.0]) == Spread(4.0, 4.0, 4.0)


@pytest.mark.parametrize(("value", "reached"), [(1.9, False), (2.0, True), (2.1, True)])
def test_goals(value: float, reached: bool) -> None:
    assert at_least("x", Spread.of([value]), 2.0).reached is reached
    assert at_most("x", Spread.of([value]), 2.0, "s").reached is (value <= 2.0)


def test_page_shows_every_number_and_keeps_those_of_other_runs(tmp_path: Path) -> None:
    numbers, page = tmp_path / "n.json", tmp_path / "p.md"
    save(numbers, "decode", [at_least("decoding", Spread(2.5, 2.0, 3.0), 1.6, note="why")], rounds=3)
    save(numbers, "memory", [at_most("peak", Spread.of([1.3]), 1.1, "x")], rounds=1)
    write_table(numbers, page)
    text = page.read_text()
    assert "| decoding | **2.5** x (2 to 3) | ≥ 1.6 ✓ | why |" in text
    assert "| peak | **1.3** x | ≤ 1.1 missed |  |" in text
    assert text.index("## Decoding") < text.index("## Memory")


def test_every_benchmark_has_a_place_on_the_page() -> None:
    assert MODULES.keys() == TITLES.keys()


@pytest.mark.skipif(not NUMBERS.is_file(), reason="nothing was measured yet")
def test_the_page_is_what_the_numbers_say(tmp_path: Path) -> None:
    assert json.loads(NUMBERS.read_text(encoding="utf-8")).keys() <= TITLES.keys()
    write_table(NUMBERS, tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")
