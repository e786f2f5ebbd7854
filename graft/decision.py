"""What the registry decided about a model, written into its report."""

from collections.abc import Sequence
from html import escape

MARK = "<!-- decision -->"


def with_decision(page: str, model: str, *, promoted: bool, reasons: Sequence[str]) -> str:
    """Return the page with the decision below its headline; the page as it is if it has no place for one.

    Args:
        page: what `report.render` made.
        model: name and version, such as `graft version 3`.
        promoted: whether it became champion.
        reasons: why not, one sentence each.
    """
    if promoted:
        text, tone = f"Promoted: {model} is the champion now.", "good"
    else:
        why = "; ".join(reasons) or "no reason given"
        text, tone = f"Not promoted: {model} stays a challenger, because {why}.", "caution"
    return page.replace(MARK, f'<li class="{tone}"><span>{escape(text)}</span></li>', 1)
