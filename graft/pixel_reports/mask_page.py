"""The page about a model of masks or objects: numbers, photos with truth and answer, charts, and how it was made."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from graft.dense.pixel_scores import Score
from graft.masks.overlay import colour
from graft.reports.page import script, stylesheet, template_environment

PACKAGE = "graft.pixel_reports"
"""Where the page's template and style are."""
NAMES = {
    "mean_iou": "Mean IoU of a photo's objects",
    "mean_dice": "Mean Dice coefficient",
    "boundary_f": "Boundary F at 2 pixels",
    "pixel_accuracy": "Pixels right",
    "mask_ap": "Mask AP",
    "mask_ap50": "Mask AP50",
    "mask_ap75": "Mask AP75",
    "mask_ar": "Mask AR",
    "box_ap": "Box AP",
    "box_ap50": "Box AP50",
    "box_ap75": "Box AP75",
    "box_ar": "Box AR",
    "photo_f1": "F1 of a photo's objects",
}


@dataclass(frozen=True)
class Triple:
    """One photo, as several pictures side by side."""

    path: str
    text: str
    uris: Sequence[tuple[str, str]]
    """What each picture is, and the picture."""


@dataclass(frozen=True)
class Gallery:
    """A row of photos."""

    id: str
    name: str
    lead: str
    pictures: Sequence[Triple]


@dataclass(frozen=True)
class PixelReport:
    """What the page shows."""

    title: str
    headline: str
    basis: str
    remarks: Sequence[tuple[str, str]]
    confidence: float
    photos: Mapping[str, int]
    test: Mapping[str, Score]
    val: Mapping[str, Score]
    paired: str
    baselines: Mapping[str, Score]
    gains: Mapping[str, Score]
    class_columns: Sequence[str]
    classes: Sequence[tuple[str, int, Sequence[str]]]
    """Name, index of its colour, and cells."""
    galleries: Sequence[Gallery]
    data: str = ""
    """Name of the data set; empty if it is unknown."""
    figures: Sequence[tuple[str, str, str]] = ()
    """Name, text and SVG."""
    made: Sequence[tuple[str, str]] = field(default_factory=tuple)
    made_on: date | None = None


def data_uri(jpeg: bytes) -> str:
    """Return a JPEG as text for a page."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def render(report: PixelReport) -> str:
    """Return the page as HTML; every text that comes from the data is escaped."""
    sorting = script()
    return (
        _environment()
        .get_template("mask.html.j2")
        .render(
            title=report.title,
            data=report.data,
            headline=report.headline,
            basis=report.basis,
            remarks=report.remarks,
            made_on=f"{report.made_on or date.today():%d %B %Y}",
            confidence=report.confidence,
            photos=report.photos,
            metrics=[(NAMES.get(name, name), score, report.val.get(name)) for name, score in report.test.items()],
            paired_name=NAMES.get(report.paired, report.paired),
            baselines=[(name, score, report.gains[name]) for name, score in report.baselines.items()],
            class_columns=report.class_columns,
            classes=[(label, _css(at), cells) for label, at, cells in report.classes],
            galleries=[(one.id, one.name, one.lead, one.pictures) for one in report.galleries if one.pictures],
            figures=[(name, text, Markup(svg)) for name, text, svg in report.figures],
            made=report.made,
            style=stylesheet(["mask_page/mask.css"], PACKAGE),
            script=sorting.text,
            script_hash=sorting.csp_source,
        )
    )


def champion_row(version: int, gain: Score) -> str:
    """Return the row of the champion in the table of baselines as HTML."""
    cells: Iterable[Any] = (shown(gain.value), f"{shown(gain.low)} to {shown(gain.high)}")
    gained, interval = cells
    return f'<tr><th scope="row">champion, version {version}</th><td></td><td>{gained}</td><td>{interval}</td></tr>'


def shown(value: float | None) -> str:
    """Return a number as the page shows it."""
    return "n/a" if value is None else f"{value:.3f}"


def _css(label: int) -> str:
    red, green, blue = colour(label)
    return f"rgb({red}, {green}, {blue})"


@cache
def _environment() -> Environment:
    environment = template_environment("mask_page", package=PACKAGE)
    environment.filters["number"] = shown
    return environment
