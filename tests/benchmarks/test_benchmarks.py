"""The benchmarks' own arithmetic, and that the page is what the numbers say."""

import json
from pathlib import Path

import pytest

from benchmarks import measure
from benchmarks.__main__ import MODULES, NUMBERS, PAGE
from benchmarks.cost_model import Cost, Runs, checks, memory, predictions, told_seconds
from benchmarks.measure import Spread, at_least, at_most, ratio, save
from benchmarks.scale import in_turn, read, tables
from benchmarks.table import TITLES, write_table


def test_candidates_run_in_turn_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []
    seconds = measure.in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
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


def _cost(images: int, seconds: float, peak: int = 10**9) -> Cost:
    return Cost(images, seconds, seconds / 2, 5000 + 100 * images, peak)


def _train_head(images: int) -> float:
    """30 s, and for each of up to 2,000 training images 20 ms, of up to 5,000 10 ms, of the others 2 ms."""
    train = 0.64 * images
    return 30 + 0.02 * min(train, 2000) + 0.01 * min(train, 5000) + 0.002 * max(0, train - 5000)


def test_a_cost_model_knows_that_choices_stop_costing() -> None:
    runs = Runs(
        tuple(_cost(size, _train_head(size)) for size in (1000, 2000, 4000, 8000, 12_000, 20_000)),
        (_cost(16_000, 1.1 * _train_head(16_000)), _cost(1000, 2 * _train_head(1000))),
    )
    model = runs.model("train_head", "cpu_seconds")
    terms = {"fixed": 30, "compared image": 0.02, "choosing image": 0.01, "further image": 0.002}
    assert model.terms == pytest.approx(terms)
    assert model(10**6) == pytest.approx(30 + 40 + 50 + 1270)
    other = runs.model("extract_features", "cpu_seconds")
    assert other(10**6) - other(10**6, workers=8) == pytest.approx(7 / 8 * other.terms["image"] * 10**6)
    assert runs.model("evaluate", "bytes_written").terms == pytest.approx({"fixed": 5000, "image": 100})
    (_, _, line) = checks({"train_head": runs})
    terms_told = "30.0 + 20.0 per compared image, 10.0 per choosing image, 2.0 per further image"
    assert line == f"| train_head | {terms_told} | 98.4 / 49.2 = **2.00** | 143.5 / 130.5 = 1.10 |"


def test_memory_is_told_by_size_and_as_a_slope() -> None:
    runs = Runs(
        (_cost(1000, 1, 300 * 2**20), _cost(4000, 1, 400 * 2**20)),
        (_cost(4000, 1, 390 * 2**20), _cost(16_000, 1, 400 * 2**20 + 12_000_000)),
    )
    assert runs.memory() == {1000: 300 * 2**20, 4000: 400 * 2**20, 16_000: 400 * 2**20 + 12_000_000}
    assert runs.bytes_per_image() == pytest.approx(1000)
    (_, _, line) = memory({"evaluate": runs})
    assert line == "| evaluate | 300 / 400 / 411 | 1.0 | 100 |"
    (*_, row) = predictions({"extract_features": runs}, [10**6], [1, 8])
    assert row.startswith("| 1,000,000 | 1 s | ")
    assert row.endswith("| 1.4 GB | 100 MB |")


def test_sizes_are_measured_in_turn() -> None:
    order = in_turn({"fitted": [1, 2, 3, 4], "checked": [5, 6]})
    assert [size for _, size in order] == [1, 5, 2, 3, 6, 4]
    assert order[1] == ("checked", 5)


@pytest.mark.parametrize(
    ("seconds", "told"), [(90, "90 s"), (180, "3.0 min"), (3600, "60 min"), (9000, "2.5 h"), (10**6, "12 days")]
)
def test_times_are_told_in_their_unit(seconds: float, told: str) -> None:
    assert told_seconds(seconds) == told


def test_the_numbers_that_are_kept_can_be_told() -> None:
    assert any(line.startswith("| train_head |") for line in tables(read()))
