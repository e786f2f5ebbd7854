"""Figures as SVG that takes its colours from the surrounding page, so that one drawing works in light, dark and print.

Every mark has a CSS class (`s1` ... `s8` for the series); `standalone_svg` adds the style that a separate file needs.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from graft.reports.axes import (
    BOTTOM,
    CHARACTER_WIDTH,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    axis_range,
    format_number,
    truncated,
    x_axis,
    y_axis,
)
from graft.stats.confidence_intervals import Interval

LEGEND_ROW = 20.0
COLOUR_COUNT = 8
MAX_POINTS = 240

STYLE = """
svg.figure { font: 12px system-ui, sans-serif; background: #fff; color: #1d2430; }
svg.figure text { fill: currentColor; }
svg.figure .quiet { fill: #5b6472; }
svg.figure .grid { stroke: #e3e6ec; }
svg.figure .axis { stroke: #9aa3b2; }
svg.figure .band { opacity: .16; stroke: none; }
svg.figure .line { stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
svg.figure .dashed { stroke-dasharray: 5 4; }
svg.figure .ideal { stroke: #9aa3b2; stroke-dasharray: 3 4; }
svg.figure .heat { fill: #2f62c9; }
svg.figure .on-heat { fill: #fff; }
""" + "".join(
    f"svg.figure .s{number} {{ stroke: {colour}; fill: {colour}; }}\n"
    for number, colour in enumerate(
        ("#2f62c9", "#c4520a", "#0d7d6c", "#8a3fb3", "#b4234e", "#5d6b11", "#0b7ea8", "#6a7180"), start=1
    )
)
STYLE += "svg.figure .line { fill: none; }\n"  # after the colours, which would fill it


@dataclass(frozen=True)
class Series:
    """One line of a chart; `low` and `high` draw a band around it."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    kind: Literal["line", "dashed", "points"] = "line"
    colour: int | None = None
    """1 to 8; None: by position in the chart."""


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    x_names: Sequence[str] | None = None,
    ideal: bool = False,
    percent: bool = False,
) -> str:
    """Draw lines with bands.

    Args:
        series: what to draw; longer ones are thinned to 240 points.
        title: text for screen readers.
        x_label: under the x axis.
        y_label: beside the y axis.
        x_range: limits of the x axis; None: from the data.
        y_range: limits of the y axis; None: from the data.
        x_names: names for x = 0, 1, ..., in place of numbers.
        ideal: draw the diagonal.
        percent: show y as per cent.

    Returns:
        An `<svg>` element.
    """
    legend = _legend([(s.name, s.colour or i + 1, s.kind) for i, s in enumerate(series)]) if len(series) > 1 else []
    longest = max(map(len, x_names or ()), default=0)
    slanted = x_names is not None and longest * CHARACTER_WIDTH > (WIDTH - LEFT) / len(x_names)
    bottom = BOTTOM + (34.0 if slanted else 0.0)
    xs = x_range or axis_range([value for s in series for value in s.x], margin=0.0)
    shown = [v for s in series for v in (*s.y, *(s.low or ()), *(s.high or ())) if not math.isnan(v)]
    ys = y_range or axis_range(shown)
    if x_names is not None:
        xs = (-0.35, max(len(x_names) - 0.65, 0.35))
    top = TOP + len(legend) * LEGEND_ROW
    x, y = Scale(*xs, LEFT, WIDTH - RIGHT), Scale(*ys, top + HEIGHT - TOP - BOTTOM, top)
    height = y.start + bottom
    parts = [*_rows(legend), *y_axis(y, y_label, percent), *x_axis(x, y.start, x_label, x_names, slanted, height)]
    if ideal:
        parts.append(f'<path class="ideal" d="M{x(xs[0]):.1f} {y(xs[0]):.1f}L{x(xs[1]):.1f} {y(xs[1]):.1f}"/>')
    for position, one in enumerate(series):
        parts += _draw(one, x, y, one.colour or position % COLOUR_COUNT + 1, percent)
    return _svg(title, parts, height)


def interval_chart(
    rows: Sequence[tuple[str, Interval, int]], *, title: str, x_label: str, percent: bool = False
) -> str:
    """Draw one dot with its interval per row (name, interval, colour)."""
    left = min(190.0, max((len(name) for name, *_ in rows), default=0) * CHARACTER_WIDTH + 18)
    known = [v for _, interval, _ in rows for v in interval if not math.isnan(v)]
    x = Scale(*axis_range(known), left, WIDTH - RIGHT - 20)
    bottom = TOP + 30.0 * len(rows)
    parts = x_axis(x, bottom, x_label, None, False, bottom + BOTTOM - 6, percent=percent, grid=TOP)
    for number, (name, interval, colour) in enumerate(rows):
        at = TOP + 30.0 * number + 15
        parts.append(f'<text x="{left - 12:.0f}" y="{at + 4:.1f}" text-anchor="end">{truncated(name, 26)}</text>')
        if math.isnan(interval.value):
            continue
        if not math.isnan(interval.low):
            line = f"M{x(interval.low):.1f} {at:.1f}H{x(interval.high):.1f}"
            parts.append(f'<path class="line s{colour}" d="{line}"/>')
        value, low, high = (format_number(one, percent) for one in interval)
        parts.append(f'<circle class="s{colour}" cx="{x(interval.value):.1f}" cy="{at:.1f}" r="5">')
        parts.append(f"<title>{escape(name)}: {value} ({low} to {high})</title>")
        parts.append("</circle>")
    return _svg(title, parts, bottom + BOTTOM)


def heatmap(matrix: Sequence[Sequence[int]], names: Sequence[str], *, title: str) -> str:
    """Draw a confusion matrix, true classes in rows; a cell's shade is its share of the row."""
    size = len(names)
    longest = min(max(map(len, names), default=1), 16)
    left, top = longest * CHARACTER_WIDTH + 44, longest * CHARACTER_WIDTH * 0.72 + 40
    cell = max(15.0, min(84.0 if size < 4 else 56.0, (560 - left) / max(size, 1)))
    width = max(left + cell * size + 40, 260.0)
    numbers = cell >= 24
    parts = [
        f'<text class="quiet" x="{left + cell * size / 2:.0f}" y="14" text-anchor="middle">predicted</text>',
        f'<text class="quiet" transform="translate(12 {top + cell * size / 2:.0f}) rotate(-90)" text-anchor="middle">'
        "true</text>",
    ]
    for column, name in enumerate(names):
        at = left + cell * (column + 0.5)
        parts.append(f'<text transform="translate({at:.1f} {top - 8:.1f}) rotate(-45)">{truncated(name, 16)}</text>')
    for row, counts in enumerate(matrix):
        at, total = top + cell * row, sum(counts)
        parts.append(
            f'<text x="{left - 8:.1f}" y="{at + cell / 2 + 4:.1f}" text-anchor="end">{truncated(names[row], 16)}</text>'
        )
        for column, count in enumerate(counts):
            share = count / total if total else 0.0
            box = f'x="{left + cell * column:.1f}" y="{at:.1f}" width="{cell - 2:.1f}" height="{cell - 2:.1f}" rx="3"'
            tooltip = f"{escape(names[row])} predicted as {escape(names[column])}: {count} of {total}"
            # A single mistake among many images must stay visible.
            shade = 0.045 if not count else 0.12 + 0.88 * share
            parts.append(f'<rect class="heat" {box} opacity="{shade:.3f}"><title>{tooltip}</title></rect>')
            if numbers and count:
                where = f'x="{left + cell * column + (cell - 2) / 2:.1f}" y="{at + cell / 2 + 3:.1f}"'
                shown = "on-heat" if share > 0.5 else "on-light"
                parts.append(f'<text class="{shown}" {where} text-anchor="middle">{count}</text>')
    return _svg(title, parts, top + cell * size + 8, width)


def bar_chart(
    rows: Sequence[tuple[str, float]], *, title: str, x_label: str, colour: int = 1, longest: float | None = None
) -> str:
    """Draw one horizontal bar per row (name, value).

    Args:
        rows: names and values.
        title: of the figure.
        x_label: below the bars.
        colour: number of the series' colour.
        longest: value of a bar of full length, for charts that are compared; None: the largest value.
    """
    left = min(190.0, max((len(name) for name, _ in rows), default=0) * CHARACTER_WIDTH + 18)
    x = Scale(0.0, longest or max((value for _, value in rows), default=1.0) or 1.0, left, WIDTH - RIGHT - 44)
    parts = []
    for number, (name, value) in enumerate(rows):
        at = TOP + 24.0 * number
        parts.append(f'<text x="{left - 10:.0f}" y="{at + 13:.1f}" text-anchor="end">{truncated(name, 26)}</text>')
        box = f'x="{left:.1f}" y="{at:.1f}" width="{max(x(value) - left, 1):.1f}" height="17" rx="3"'
        parts.append(f'<rect class="s{colour}" {box}/>')
        parts.append(
            f'<text class="quiet" x="{x(value) + 6:.1f}" y="{at + 13:.1f}">{format_number(value, False)}</text>'
        )
    height = TOP + 24.0 * len(rows) + 20
    parts.append(f'<text class="quiet" x="{left:.0f}" y="{height - 4:.1f}">{escape(x_label)}</text>')
    return _svg(title, parts, height + 6)


def standalone_svg(svg: str) -> str:
    """Return the figure as the text of an .svg file with its own style."""
    return svg.replace(">", f' xmlns="http://www.w3.org/2000/svg"><style>{STYLE}</style>', 1)


def _svg(title: str, parts: Sequence[str], height: float, width: float = WIDTH) -> str:
    box = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return f'<svg class="figure" role="img" {box}><title>{escape(title)}</title>{"".join(parts)}</svg>'


def _draw(one: Series, x: Scale, y: Scale, colour: int, percent: bool) -> Iterator[str]:
    kept = _thinned([i for i, value in enumerate(one.y) if not math.isnan(value)])
    points = [(x(one.x[i]), y(min(max(one.y[i], y.first), y.last))) for i in kept]
    if not points:
        return
    if one.low is not None and one.high is not None:
        upper = [f"{x(one.x[i]):.1f} {y(min(one.high[i], y.last)):.1f}" for i in kept]
        lower = [f"{x(one.x[i]):.1f} {y(max(one.low[i], y.first)):.1f}" for i in reversed(kept)]
        if one.kind == "points" or len(kept) == 1:
            whisker = "".join(f"M{a}L{b}" for a, b in zip(upper, reversed(lower), strict=True))
            yield f'<path class="line s{colour}" d="{whisker}"/>'
        else:
            yield f'<path class="band s{colour}" d="M{"L".join([*upper, *lower])}Z"/>'
    if one.kind != "points":
        dashed = " dashed" if one.kind == "dashed" else ""
        yield f'<path class="line{dashed} s{colour}" d="M{"L".join(f"{a:.1f} {b:.1f}" for a, b in points)}"/>'
    if one.kind == "points" or len(points) <= 24:
        for i, (a, b) in zip(kept, points, strict=True):
            tooltip = f"{escape(one.name)}: {format_number(one.y[i], percent)}"
            yield f'<circle class="s{colour}" cx="{a:.1f}" cy="{b:.1f}" r="3.5"><title>{tooltip}</title></circle>'


def _legend(entries: Sequence[tuple[str, int, str]]) -> list[list[tuple[float, str, int, str]]]:
    """Lay out the legend in rows of (x, name, colour, kind)."""
    rows: list[list[tuple[float, str, int, str]]] = [[]]
    at = LEFT
    for name, colour, kind in entries:
        text = name if len(name) <= 34 else name[:33] + "…"
        width = 30 + len(text) * CHARACTER_WIDTH
        if rows[-1] and at + width > WIDTH - RIGHT:
            rows.append([])
            at = LEFT
        rows[-1].append((at, text, (colour - 1) % COLOUR_COUNT + 1, kind))
        at += width + 8
    return rows


def _rows(legend: Sequence[Sequence[tuple[float, str, int, str]]]) -> Iterator[str]:
    for number, row in enumerate(legend):
        at = TOP + number * LEGEND_ROW
        for x, name, colour, kind in row:
            if kind == "points":
                yield f'<circle class="s{colour}" cx="{x + 9:.1f}" cy="{at:.1f}" r="4"/>'
            else:
                dashed = " dashed" if kind == "dashed" else ""
                yield f'<path class="line{dashed} s{colour}" d="M{x:.1f} {at:.1f}h18"/>'
            yield f'<text x="{x + 24:.1f}" y="{at + 4:.1f}">{escape(name)}</text>'


def _thinned(indices: list[int]) -> list[int]:
    if len(indices) <= MAX_POINTS:
        return indices
    step = (len(indices) - 1) / (MAX_POINTS - 1)
    return [indices[round(number * step)] for number in range(MAX_POINTS)]
