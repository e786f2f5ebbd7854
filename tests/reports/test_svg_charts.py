"""Figures: well-formed SVG with marks, names and tooltips for any input."""

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.reports.svg_charts import Series, bar_chart, heatmap, interval_chart, line_chart, standalone_svg
from graft.stats.confidence_intervals import Interval

FINITE = st.floats(-1e6, 1e6, allow_nan=False)


def parsed(svg: str) -> ElementTree.Element:
    """Parse the SVG, and check that no coordinate is NaN or infinite."""
    assert not re.search(r"nan|inf\b", re.sub(r"<title>.*?</title>|<text.*?</text>", "", svg))
    return ElementTree.fromstring(svg)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=400), st.booleans())
def test_any_series_gives_a_chart(points: list[tuple[float, float]], percent: bool) -> None:
    x, y = zip(*points, strict=True)
    svg = line_chart([Series("a", x, y, low=y, high=y)], title="t", x_label="x", y_label="y", percent=percent)
    assert parsed(svg).get("role") == "img"


def test_undefined_points_are_left_out() -> None:
    svg = line_chart([Series("a", [0, 1, 2], [0.1, math.nan, 0.3])], title="t", x_label="x", y_label="y")
    assert len(parsed(svg).findall("circle")) == 2
    parsed(line_chart([Series("a", [0], [math.nan])], title="t", x_label="x", y_label="y"))
    parsed(line_chart([], title="t", x_label="x", y_label="y"))


def test_long_series_are_thinned_and_keep_their_ends() -> None:
    count = 50_000
    svg = line_chart(
        [Series("a", range(count), [i / count for i in range(count)])], title="t", x_label="x", y_label="y"
    )
    line = parsed(svg).find("path[@class='line s1']")
    assert line is not None
    assert line.get("d", "").count("L") == 239
    assert len(svg) < 10_000


def test_names_are_escaped_and_shortened() -> None:
    name = "<b>&" + "x" * 60
    svg = line_chart([Series(name, [0], [1]), Series("b", [0], [2])], title=name, x_label=name, y_label=name)
    assert "<b>" not in svg
    root = parsed(svg)
    assert any((text.text or "").endswith("…") for text in root.iter("text"))
    parsed(heatmap([[3, 1], [0, 2]], [name, "b"], title="t"))
    parsed(interval_chart([(name, Interval(0.5, 0.4, 0.6), 1)], title="t", x_label="x"))
    parsed(bar_chart([(name, 3.0)], title="t", x_label="x"))


def test_each_cell_of_a_heatmap_has_a_tooltip() -> None:
    root = parsed(heatmap([[30, 1], [0, 0]], ["ant", "bee"], title="t"))
    titles = [title.text for title in root.iter("title")]
    assert "ant predicted as bee: 1 of 31" in titles
    assert "bee predicted as bee: 0 of 0" in titles
    assert len(root.findall("rect")) == 4
    assert len(parsed(heatmap([[1] * 40] * 40, [f"c{i}" for i in range(40)], title="t")).findall("rect")) == 1600


def test_a_row_without_an_interval_shows_only_the_dot() -> None:
    rows = [("a", Interval(0.5, math.nan, math.nan), 1), ("b", Interval(math.nan, math.nan, math.nan), 2)]
    assert len(parsed(interval_chart(rows, title="t", x_label="x")).findall("circle")) == 1


def test_a_separate_file_contains_its_style() -> None:
    text = standalone_svg(bar_chart([("a", 1.0)], title="t", x_label="x"))
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root[0].tag.endswith("style")


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.937, 0.951), (0.0, 12345.0), (-3.0, 7.0), (0.5, 0.5)])
def test_axes_have_a_handful_of_round_ticks(low: float, high: float) -> None:
    svg = line_chart([Series("a", [0, 1], [low, high])], title="t", x_label="x", y_label="y", y_range=(low, high))
    grid = parsed(svg).findall("path[@class='grid']")
    assert 1 <= len(grid) <= 8
