"""Axes of figures: the position of values, ticks and labels."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 400.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 66.0, 14.0, 12.0, 46.0
CHARACTER_WIDTH = 6.6
"""Width of an average character at the figures' font size."""


@dataclass(frozen=True)
class Scale:
    """A linear map from values to positions in the drawing: `first` to `start`, `last` to `end`."""

    first: float
    last: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the position of a value."""
        span = self.last - self.first or 1.0
        return self.start + (value - self.first) / span * (self.end - self.start)


def y_axis(y: Scale, label: str, percent: bool) -> Iterator[str]:
    """Yield the elements of the y axis, left of the chart, with its grid."""
    for tick in round_ticks(y.first, y.last):
        yield f'<path class="grid" d="M{LEFT:.0f} {y(tick):.1f}H{WIDTH - RIGHT:.0f}"/>'
        text = format_number(tick, percent)
        yield f'<text class="quiet" x="{LEFT - 7:.0f}" y="{y(tick) + 4:.1f}" text-anchor="end">{text}</text>'
    middle = (y.start + y.end) / 2
    where = f'transform="translate(12 {middle:.0f}) rotate(-90)" text-anchor="middle"'
    yield f'<text class="quiet" {where}>{escape(label)}</text>'


def x_axis(
    x: Scale,
    at: float,
    label: str,
    names: Sequence[str] | None,
    slanted: bool,
    height: float,
    percent: bool = False,
    grid: float | None = None,
) -> list[str]:
    """Draw an axis below the chart.

    Args:
        x: scale of the axis.
        at: y coordinate of the axis.
        label: text below the axis.
        names: tick labels for 0, 1, ..., in place of numbers.
        slanted: rotate the tick labels, so that long ones fit.
        height: of the drawing.
        percent: show values as per cent.
        grid: y coordinate at which grid lines end; None: no grid lines.
    """
    parts = [f'<path class="axis" d="M{x.start:.0f} {at:.1f}H{x.end:.0f}"/>']
    ticks = (
        [(float(i), name) for i, name in enumerate(names)]
        if names is not None
        else [(tick, format_number(tick, percent)) for tick in round_ticks(x.first, x.last)]
    )
    for tick, text in ticks:
        if grid is not None:
            parts.append(f'<path class="grid" d="M{x(tick):.1f} {grid:.1f}V{at:.1f}"/>')
        if slanted:
            where = f'transform="translate({x(tick) + 4:.1f} {at + 14:.1f}) rotate(-35)" text-anchor="end"'
        else:
            where = f'x="{x(tick):.1f}" y="{at + 17:.1f}" text-anchor="middle"'
        parts.append(f'<text class="quiet" {where}>{truncated(text, 14)}</text>')
    middle = (x.start + x.end) / 2
    parts.append(
        f'<text class="quiet" x="{middle:.0f}" y="{height - 8:.1f}" text-anchor="middle">{escape(label)}</text>'
    )
    return parts


def axis_range(values: Sequence[float], margin: float = 0.08) -> tuple[float, float]:
    """Return the limits of an axis, with a margin around the values."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    padding = (high - low) * margin or (margin and max(abs(high), 1.0) * 0.05)
    # The margin must not make a rate look as if it could be below 0 or above 1.
    bottom = max(low - padding, 0.0) if low >= 0 else low - padding
    top = min(high + padding, 1.0) if low >= 0 and high <= 1 else high + padding
    return (bottom, top) if top > bottom else (bottom, bottom + 1.0)


def round_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Return about `count` round numbers between two limits."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def format_number(value: float, percent: bool) -> str:
    """Return a number as short text."""
    if math.isnan(value):
        return "n/a"
    if percent:
        return f"{value * 100:.1f}".rstrip("0").rstrip(".") + " %"
    if abs(value) >= 1000 and value == round(value):
        return f"{value:,.0f}"
    return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 100 else f"{value:.4g}"


def truncated(text: str, longest: int) -> str:
    """Return the text cut to `longest` characters and escaped for HTML."""
    return escape(text if len(text) <= longest else text[: longest - 1] + "…")
