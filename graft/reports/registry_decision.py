"""What the registry found and decided about a model, written into its report."""

from collections.abc import Sequence
from html import escape

from graft.evaluation.schema import PairedComparison
from graft.reports.evaluation_page import compared_row

MARK, ROW_MARK = "<!-- decision -->", "<!-- champion -->"


def with_decision(page: str, model: str, *, promoted: bool, reasons: Sequence[str]) -> str:
    """Return the page with the decision below its headline; the page as it is if it has no place for one.

    Args:
        page: what `evaluation_page.render` made.
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


def with_champion(page: str, version: int, pair: PairedComparison) -> str:
    """Return the page with the champion of then as the first row of the paired comparisons."""
    return page.replace(ROW_MARK, compared_row(f"Champion, version {version}", pair), 1)
