"""Small tables, as text and as HTML."""

from collections.abc import Iterable
from html import escape

Rows = Iterable[tuple[str, str]]


def text_table(rows: Rows) -> str:
    """Return rows of a heading and a text; a heading that repeats is left out."""
    found = list(rows)
    width = max((len(heading) for heading, _ in found), default=0)
    lines, before = [], None
    for heading, text in found:
        lines.append(f"{'' if heading == before else heading:{width}}  {text}")
        before = heading
    return "\n".join(lines)


def html_table(rows: Rows, after: str = "") -> str:
    """Return rows of a heading and a text as a table; texts are escaped, the HTML of `after` is not."""
    cells = "".join(
        f"<tr><th style='text-align:left;vertical-align:top'>{escape(heading)}</th>"
        f"<td style='text-align:left'>{escape(text)}</td></tr>"
        for heading, text in rows
    )
    return f"<table>{cells}</table>{after}"
