"""The promotion decision and the comparison with the champion, added to the evaluation report."""

from collections.abc import Sequence
from html import escape

from graft.evaluation.schema import PairedComparison
from graft.reports.evaluation_page import comparison_row

DECISION_MARK, CHAMPION_MARK = "<!-- decision -->", "<!-- champion -->"


def with_decision(page: str, model: str, *, promoted: bool, reasons: Sequence[str]) -> str:
    """Return the page with the decision below its headline; a page without the placeholder is returned unchanged.

    Args:
        page: made by `evaluation_page.render`.
        model: name and version, such as `graft version 3`.
        promoted: whether it became champion.
        reasons: why it did not, one sentence each.
    """
    if promoted:
        text, tone = f"Promoted: {model} is now the champion.", "good"
    else:
        why = "; ".join(reasons) or "no reason given"
        text, tone = f"Not promoted: {model} remains a challenger, because {why}.", "caution"
    return page.replace(DECISION_MARK, f'<li class="{tone}"><span>{escape(text)}</span></li>', 1)


def with_champion(page: str, version: int, pair: PairedComparison) -> str:
    """Return the page with the champion at that time as the first row of the paired comparisons."""
    return page.replace(CHAMPION_MARK, comparison_row(f"Champion, version {version}", pair), 1)
