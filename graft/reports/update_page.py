"""The page of an update: what the model has learnt, in order, and what it forgot."""

from collections.abc import Mapping, Sequence
from datetime import date
from html import escape
from typing import Any

import numpy as np

from graft.continual.forgetting import Forgetting
from graft.continual.guard import RecallChange
from graft.continual.history import History
from graft.reports.axes import CHARACTER_WIDTH, truncated
from graft.reports.page import stylesheet, template_environment

SUMMARIES = (
    ("acc", "Accuracy", "mean over the experiences, now"),
    ("bwt", "Backward transfer", "what later learning did to earlier experiences"),
    ("forgetting", "Forgetting", "below the best that was ever reached"),
    ("fwt", "Forward transfer", "what was known of an experience before it was learnt, beyond guessing"),
)
CELL = 58.0


def render_update(
    numbers: Mapping[str, Any],
    found: Forgetting,
    experiences: Sequence[RecallChange],
    recalls: Sequence[RecallChange],
    history: History,
    made: date | None = None,
) -> str:
    """Return the page as HTML; every text that comes from the data is escaped.

    Args:
        numbers: of the examination.
        found: matrix and summaries.
        experiences: accuracy on every experience before and after.
        recalls: recall of every class before and after.
        history: of the model.
        made: date on the page; None: today.
    """
    return (
        template_environment("update_page")
        .get_template("update.html.j2")
        .render(
            numbers=numbers,
            summaries=[(name, text, getattr(found, key)) for key, name, text in SUMMARIES],
            experiences=experiences,
            recalls=recalls,
            history=history.experiences,
            figure=matrix_chart(found, [one.name for one in history.experiences]),
            made=f"{made or date.today():%d %B %Y}",
            style=stylesheet(),
        )
    )


def matrix_chart(found: Forgetting, names: Sequence[str]) -> str:
    """Draw R as an `<svg>`: rows are what was learnt last, columns the experiences that were asked about."""
    size = len(names)
    left = min(16, max(map(len, names), default=1)) * CHARACTER_WIDTH + 40
    top = left * 0.72 + 20
    width, height = left + CELL * size + 30, top + CELL * size + 10
    parts = [
        f'<text class="quiet" x="{left + CELL * size / 2:.0f}" y="14" text-anchor="middle">asked about</text>',
        f'<text class="quiet" transform="translate(12 {top + CELL * size / 2:.0f}) rotate(-90)" '
        'text-anchor="middle">after learning</text>',
    ]
    for at, name in enumerate(names):
        middle = CELL * (at + 0.5)
        short = truncated(name, 16)
        parts.append(f'<text transform="translate({left + middle:.1f} {top - 8:.1f}) rotate(-45)">{short}</text>')
        parts.append(f'<text x="{left - 8:.1f}" y="{top + middle + 4:.1f}" text-anchor="end">{short}</text>')
    for i, j in np.ndindex(found.matrix.shape):
        value = found.matrix[i, j]
        if np.isnan(value):
            continue
        x, y = left + CELL * j, top + CELL * i
        images = int(found.counts[j])
        told = f"{escape(names[j])} after {escape(names[i])}: {value:.3f} of {images} images"
        box = f'x="{x:.1f}" y="{y:.1f}" width="{CELL - 2:.1f}" height="{CELL - 2:.1f}" rx="3"'
        parts.append(f'<rect class="heat" {box} opacity="{0.05 + 0.95 * value**2:.3f}"><title>{told}</title></rect>')
        shown = "on-heat" if value > 0.75 else "on-light"
        parts.append(f'<text class="{shown}" x="{x + 28:.1f}" y="{y + 27:.1f}" text-anchor="middle">{value:.3f}</text>')
        parts.append(f'<text class="{shown}" x="{x + 28:.1f}" y="{y + 43:.1f}" text-anchor="middle">n {images}</text>')
    box = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return f'<svg class="figure" role="img" {box}><title>Accuracy matrix</title>{"".join(parts)}</svg>'
