"""The promotion decision and the comparison with the champion, added to the evaluation report."""

import re
from collections.abc import Sequence
from html import escape

from graft.evaluation.headline import against_guessing, percent, span
from graft.evaluation.schema import Evaluation, PairedComparison
from graft.reports.evaluation_page import comparison_row

DECISION_MARK, CHAMPION_MARK, GUESSING_MARK = "<!-- decision -->", "<!-- champion -->", "<!-- guessing -->"


def with_decision(page: str, model: str, *, promoted: bool, reasons: Sequence[str], run_id: str | None = None) -> str:
    """Return the page with the decision below its headline; a page without the placeholder is returned unchanged.

    Args:
        page: made by `evaluation_page.render`.
        model: name and version, such as `graft version 3`.
        promoted: whether it became champion.
        reasons: why it did not, one sentence each.
        run_id: the pipeline's run in MLflow, if there is one.
    """
    if promoted:
        text, tone = f"Promoted: {model} is now the champion.", "good"
    else:
        why = "; ".join(reasons) or "no reason given"
        text, tone = f"Not promoted: {model} remains a challenger, because {why}.", "caution"
    lines = f'<li class="{tone}"><span>{escape(text)}</span></li>'
    if run_id:
        command = f"<code>make reproduce RUN={escape(run_id)}</code>"
        lines += f"<li><span>The same again, from its record: {command}</span></li>"
    return page.replace(DECISION_MARK, lines, 1)


def with_served_answers(page: str, served: Evaluation, decision: str) -> str:
    """Return the page with its first remark about the answers that are served, and how often they are right.

    Args:
        page: made by `evaluation_page.render`, of the most probable classes.
        served: the evaluation of the served answers.
        decision: how they are made, such as "bee from 0.31 on".
    """
    accuracy, remark = served.test["accuracy"], against_guessing(served)
    text = f"Served with a threshold ({decision}), it is right on {percent(accuracy.value)} ({span(accuracy)}). "
    found = re.compile(rf"{re.escape(GUESSING_MARK)}<li[^>]*>.*?</li>", re.DOTALL)
    return found.sub(
        lambda _: f'<li class="{remark.tone}"><span>{escape(text + remark.text)}</span></li>', page, count=1
    )


def with_champion(page: str, version: int, pair: PairedComparison, left_out: int = 0) -> str:
    """Return the page with the champion at that time as the first row of the paired comparisons.

    Args:
        page: made by `evaluation_page.render`.
        version: of the champion.
        pair: the model compared with it.
        left_out: test images that the champion was trained on, and that were not compared.
    """
    without = f", without {left_out} images that it was trained on" if left_out else ""
    return page.replace(CHAMPION_MARK, comparison_row(f"Champion, version {version}{without}", pair), 1)
