"""The evaluation report: one self-contained page that loads nothing, sends nothing and runs only its own script."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Any, NamedTuple, get_args

from jinja2 import Environment

from graft.evaluation.gallery import Gallery
from graft.evaluation.headline import percent, points, span, verdict
from graft.evaluation.schema import Evaluation, PairedComparison
from graft.reports.embedding_view import FOLDER as EMBEDDING
from graft.reports.embedding_view import SCRIPT as EMBEDDING_SCRIPT
from graft.reports.embedding_view import STYLE as EMBEDDING_STYLE
from graft.reports.embedding_view import EmbeddingView
from graft.reports.model_card import CardPart
from graft.reports.page import script, stylesheet, template_environment
from graft.reports.wording import COMPARED_MODELS, METRIC_MEANINGS, METRIC_NAMES, TAG_MEANINGS, THRESHOLD_GOALS
from graft.stats.metrics import MOST_RANKED
from graft.stats.resampled_metrics import UNBOUNDED
from graft.tasks.task import Section


class _Section(NamedTuple):
    """A part of the page."""

    id: str
    """Also the name of its template."""
    name: str
    """Short, for the navigation."""
    title: str
    holds: str = ""
    """What one sees after opening it; empty: it is always open."""


SECTIONS = (
    _Section("confusion", "Classes", "Class by class"),
    _Section("labels", "Labels", "Label by label"),
    _Section("mistakes", "Mistakes", "Most confident mistakes"),
    _Section("map", "Map", "Map of the images", "similar images lie near each other; pick some with a lasso"),
    _Section("numbers", "Numbers", "The numbers", "every metric with its interval, and paired comparisons"),
    _Section("slices", "Slices", "Where it is weak", "accuracy by domain, size and your own columns"),
    _Section(
        "curves", "Transfer", "What was reused and trained", "the depth of the backbone, and fine-tuning by stage"
    ),
    _Section("calibration", "Confidence", "Can its confidence be trusted?", "reliability, prediction sets, abstention"),
    _Section("ranking", "Thresholds", "Ranking", "ROC curve, precision and recall at every threshold"),
    _Section("prospects", "Learning curve", "Learning curve and cost", "what more labels would bring; time per image"),
    _Section("data", "Data", "Data", "images by class and split"),
    _Section("made", "Made from", "How it was made", "weights, parameters and versions"),
    _Section("card", "Model card", "Model card", "intended use, data and limits"),
)
"""In the order of the page: what a reader looks at first is open, the rest is folded."""


ROWS_SHOWN = 20
"""Rows of a long table that are shown until one is searched for."""
PICTURES_SHOWN = 8
"""Mistakes that are shown; the others open with a click."""
LEAST_CONFUSED = 2
"""Images of a pair of confused classes from which on the pair is shown."""


@dataclass(frozen=True)
class Report:
    """What the page shows."""

    title: str
    """What is told apart: the first class names."""
    evaluation: Evaluation
    counts: Mapping[str, Mapping[str, int]]
    """Images by split and class."""
    figures: Mapping[str, str] = field(default_factory=dict)
    """`<svg>` elements by name."""
    gallery: Gallery = field(default_factory=Gallery)
    provenance: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """How the model was made: facts by part."""
    card: Sequence[CardPart] = ()
    embedding: EmbeddingView | None = None
    """The images as points of a plane."""
    data: str = ""
    """Name of the data set; empty if it is unknown."""
    backbone: str = ""
    """Architecture, and the last group of it that is reused; empty if it is unknown."""
    made_on: date | None = None
    """Date shown on the page; None: today."""
    further: "Sequence[Report]" = ()
    """Other tasks of the same images, each in a part of its own that can be opened."""


def render(report: Report) -> str:
    """Return the page as HTML. Every text that comes from the data is escaped."""
    code = script("page/page.js", "evaluation_page/gallery.js", EMBEDDING_SCRIPT)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            **_shown_of(report),
            made_on=f"{report.made_on or date.today():%d %B %Y}",
            overview=[_summary(one) for one in (report, *report.further)] if report.further else [],
            further=[
                _environment().get_template("task.html.j2").render(**_shown_of(one), place=place)
                for place, one in enumerate(report.further, 2)
            ],
            style=stylesheet([EMBEDDING_STYLE]),
            script=code.text,
            script_hash=code.csp_source,
        )
    )


def _shown_of(report: Report) -> dict[str, Any]:
    """Return what the templates show of a task."""
    total = report.evaluation.images["test"]
    right = round((report.evaluation.test["accuracy"].value or 0.0) * total)
    return {
        "title": report.title,
        "data": report.data,
        "backbone": report.backbone,
        "evaluation": report.evaluation,
        "verdict": verdict(report.evaluation),
        "sections": [section for section in SECTIONS if _has_section(report, section.id)],
        "figures": report.figures,
        "counts": report.counts,
        "gallery": report.gallery,
        "embedding": report.embedding,
        "wrong": total - right,
        "provenance": report.provenance,
        "card": report.card,
        "names": METRIC_NAMES,
        "meanings": METRIC_MEANINGS | (TAG_MEANINGS if not report.evaluation.task.exclusive else {}),
        "compared_models": COMPARED_MODELS,
        "goals": THRESHOLD_GOALS,
        "most_ranked": MOST_RANKED,
        "fold": ROWS_SHOWN,
        "pictures": PICTURES_SHOWN,
        "least_confused": LEAST_CONFUSED,
    }


def _summary(report: Report) -> dict[str, Any]:
    """Return the row of a task in the overview."""
    found = report.evaluation
    headline = found.task.headline
    return {
        "name": found.task.name,
        "labels": len(found.classes),
        "images": found.images,
        "metric": METRIC_NAMES.get(headline, headline),
        "score": found.test[headline],
        "verdict": verdict(found),
    }


def comparison_row(name: str, pair: PairedComparison) -> str:
    """Return one row of the paired comparison table as HTML."""
    return _environment().get_template("compared.html.j2").render(name=name, pair=pair)


def _has_section(report: Report, section: str) -> bool:
    if section in get_args(Section) and section not in report.evaluation.task.sections:
        return False
    has_content = {
        "labels": bool(report.evaluation.per_class),
        "map": report.embedding is not None,
        "curves": bool(report.figures.keys() & {"reuse_depth", "stages"}),
        "calibration": "reliability" in report.figures,
        "ranking": bool(report.figures.keys() & {"roc", "precision_recall"}),
        "slices": bool(report.evaluation.slices or report.evaluation.unsliced),
        "prospects": bool(report.evaluation.learning or report.evaluation.efficiency),
        "made": bool(report.provenance),
        "card": bool(report.card),
    }
    return has_content.get(section, True)


@cache
def _environment() -> Environment:
    environment = template_environment("evaluation_page", EMBEDDING)
    environment.filters |= {"percent": percent, "points": points, "span": span, "shown": _shown}
    return environment


def _shown(value: float | None, name: str = "") -> str:
    """Return a metric as the page shows it: rates as per cent, losses with three decimals."""
    if name not in UNBOUNDED:
        return percent(value)
    return "n/a" if value is None else f"{value:.3f}"
