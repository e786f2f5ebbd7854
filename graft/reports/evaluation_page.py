"""The page people look at: one self-contained file that loads nothing, sends nothing and runs no script but its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Any, get_args

from jinja2 import Environment

from graft.evaluation.gallery import Gallery
from graft.evaluation.headline import percent, points, span, verdict
from graft.evaluation.schema import Evaluation, PairedComparison
from graft.reports.model_card import CardPart
from graft.reports.page import environment, script, style
from graft.reports.wording import GOALS, MEANINGS, NAMES, RIVALS
from graft.stats.confidence_intervals import UNBOUNDED
from graft.tasks.task import Section

SECTIONS = (
    # id (and template), short name, title
    ("numbers", "Numbers", "The numbers"),
    ("confusion", "Classes", "Class by class"),
    ("mistakes", "Mistakes", "Its surest mistakes"),
    ("curves", "Transfer", "How it was grafted"),
    ("calibration", "Confidence", "Can its confidence be trusted?"),
    ("ranking", "Thresholds", "Ranking"),
    ("slices", "Slices", "Where it is weak"),
    ("prospects", "Prospects", "More labels, less cost"),
    ("data", "Data", "Data"),
    ("made", "Made from", "How it was made"),
    ("card", "Model card", "Model card"),
)


@dataclass(frozen=True)
class Report:
    """What the page shows."""

    title: str
    found: Evaluation
    counts: Mapping[str, Mapping[str, int]]
    """Images by split and class."""
    figures: Mapping[str, str] = field(default_factory=dict)
    """`<svg>` elements by name."""
    gallery: Gallery = field(default_factory=Gallery)
    made: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Facts by part."""
    card: Sequence[CardPart] = ()
    made_on: date | None = None
    """None: today."""


def render(report: Report) -> str:
    """Return the page as HTML. Every text that comes from the data is escaped."""
    sorting = script()
    total = report.found.images["test"]
    right = round((report.found.test["accuracy"].value or 0.0) * total)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=report.title,
            made_on=f"{report.made_on or date.today():%d %B %Y}",
            found=report.found,
            verdict=verdict(report.found),
            sections=[
                {"id": name, "name": short, "title": title} for name, short, title in SECTIONS if _has(report, name)
            ],
            figures=report.figures,
            counts=report.counts,
            gallery=report.gallery,
            wrong=total - right,
            made=report.made,
            card=report.card,
            style=style(),
            script=sorting.text,
            script_hash=sorting.allowed,
            names=NAMES,
            meanings=MEANINGS,
            rivals=RIVALS,
            goals=GOALS,
        )
    )


def compared_row(name: str, pair: PairedComparison) -> str:
    """Return one row of the table of paired comparisons, as HTML."""
    return _environment().get_template("compared.html.j2").render(name=name, pair=pair)


def _has(report: Report, section: str) -> bool:
    if section in get_args(Section) and section not in report.found.task.sections:
        return False
    needed = {
        "curves": bool(report.figures.keys() & {"reuse_depth", "stages"}),
        "calibration": "reliability" in report.figures,
        "ranking": bool(report.figures.keys() & {"roc", "precision_recall"}),
        "slices": bool(report.found.slices),
        "prospects": bool(report.found.learning or report.found.efficiency),
        "made": bool(report.made),
        "card": bool(report.card),
    }
    return needed.get(section, True)


@cache
def _environment() -> Environment:
    made = environment("evaluation_page")
    made.filters |= {"percent": percent, "points": points, "span": span, "shown": _shown}
    return made


def _shown(value: float | None, name: str = "") -> str:
    """Return a metric as the page shows it: rates as per cent, losses with three decimals."""
    if name not in UNBOUNDED:
        return percent(value)
    return "n/a" if value is None else f"{value:.3f}"
