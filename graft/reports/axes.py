"""Axes of figures: where values lie on the drawing, and which of them are written beside it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, WIDE, HEIGHT = 480.0, 560.0, 290.0
LEFT, RIGHT, TOP, BOTTOM = 66.0, 14.0, 12.0, 46.0
CHARACTER = 6.6
"""Width of an average character at the figures' font size."""


@dataclass(frozen=True)
class Scale:
    """Where a value lies on the drawing: `first` at `start`, `last` at `end`."""

    first: float
    last: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        span = self.last - self.first or 1.0
        return self.start + (value - self.first) / span * (self.end - self.start)


def y_axis(y: Scale, label: str, percent: bool) -> Iterator[str]:
    """Yield an axis beside the chart, with its grid."""
    for tick in ticks_between(y.first, y.last):
        yield f'<path class="grid" d="M{LEFT:.0f} {y(tick):.1f}H{WIDTH - RIGHT:.0f}"/>'
        text = written(tick, percent)
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
        x: of the axis.
        at: its height on the drawing.
        label: under it.
        names: for 0, 1, ..., in place of numbers.
        slanted: whether these lean, to have room.
        height: of the drawing.
        percent: show values as per cent.
        grid: up to where lines go from the ticks; None: no lines.
    """
    parts = [f'<path class="axis" d="M{x.start:.0f} {at:.1f}H{x.end:.0f}"/>']
    ticks = (
        [(float(i), name) for i, name in enumerate(names)]
        if names is not None
        else [(tick, written(tick, percent)) for tick in ticks_between(x.first, x.last)]
    )
    for tick, text in ticks:
        if grid is not None:
            parts.append(f'<path class="grid" d="M{x(tick):.1f} {grid:.1f}V{at:.1f}"/>')
        if slanted:
            where = f'transform="translate({x(tick) + 4:.1f} {at + 14:.1f}) rotate(-35)" text-anchor="end"'
        else:
            where = f'x="{x(tick):.1f}" y="{at + 17:.1f}" text-anchor="middle"'
        parts.append(f'<text class="quiet" {where}>{shortened(text, 14)}</text>')
    middle = (x.start + x.end) / 2
    parts.append(
        f'<text class="quiet" x="{middle:.0f}" y="{height - 8:.1f}" text-anchor="middle">{escape(label)}</text>'
    )
    return parts


def range_of(values: Sequence[float], margin: float = 0.08) -> tuple[float, float]:
    """Return where an axis begins and ends, with a margin around the values."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    spare = (high - low) * margin or (margin and max(abs(high), 1.0) * 0.05)
    # Room is left around the data, but not beyond what a rate can be.
    bottom = max(low - spare, 0.0) if low >= 0 else low - spare
    top = min(high + spare, 1.0) if low >= 0 and high <= 1 else high + spare
    return (bottom, top) if top > bottom else (bottom, bottom + 1.0)


def ticks_between(low: float, high: float, about: int = 6) -> list[float]:
    """Return round numbers, about so many."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    rough = span / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def written(value: float, percent: bool) -> str:
    """Return a number as people read it."""
    if math.isnan(value):
        return "n/a"
    if percent:
        return f"{value * 100:.1f}".rstrip("0").rstrip(".") + " %"
    if abs(value) >= 1000 and value == round(value):
        return f"{value:,.0f}"
    return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 100 else f"{value:.4g}"


def shortened(text: str, longest: int) -> str:
    """Return a text of so many characters at most, escaped."""
    return escape(text if len(text) <= longest else text[: longest - 1] + "…")
