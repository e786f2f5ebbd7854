"""The page about what features say about the data: copies, shift and suspected labels, each with its pictures.

Beside it lie the findings as JSON and the review queue of labels.
"""

from collections.abc import Sequence
from datetime import date
from functools import cache
from pathlib import Path

from jinja2 import Environment

from graft.core.atomic import write_json, write_text
from graft.core.errors import DataError
from graft.data.dataset import ImageDataset
from graft.data.records import printable
from graft.quality.dataset_shift import Shift
from graft.quality.findings import Finding
from graft.reports.finding_view import BADGES, FOLDER, SIDE, STYLE, Picture, pictured, viewed
from graft.reports.label_page import PAGE_FILE as LABELS
from graft.reports.page import environment, style
from graft.reports.thumbnails import thumbnail

PAGE, FINDINGS = "review.html", "findings.json"


def write_review(folder: Path, images: ImageDataset, findings: Sequence[Finding], shifts: Sequence[Shift]) -> None:
    """Write the page and `findings.json` into `folder`.

    Args:
        folder: made if it is missing; the label review queue lies there too.
        images: the data set, for thumbnails.
        findings: what was found.
        shifts: every shift that was measured.
    """
    write_json(folder / FINDINGS, [finding.as_dict() for finding in findings])
    write_text(folder / PAGE, render(images, findings, shifts))


def render(
    images: ImageDataset, findings: Sequence[Finding], shifts: Sequence[Shift], made_on: date | None = None
) -> str:
    """Return the page as HTML; every text that comes from the data is escaped.

    Args:
        images: the data set, for thumbnails.
        findings: what was found.
        shifts: every shift that was measured.
        made_on: the day on the page; None: today.
    """
    shown_paths = list(dict.fromkeys(path for finding in findings for path in pictured(finding)))
    table = images.table[images.table["path"].isin(shown_paths)]
    rows = dict(zip(table["path"], table.index.tolist(), strict=True))
    reader = images.reader()
    uris: dict[str, str | None] = {}
    for path in shown_paths:
        try:
            uris[path] = thumbnail(reader[rows[path]], SIDE, channels=images.spec.channels)
        except DataError:
            uris[path] = None

    def picture(path: str) -> Picture:
        row = table.loc[rows[path]]
        return Picture(printable(path), str(row["label"]), str(row["split"]), "", uris[path])

    return (
        _environment()
        .get_template("review.html.j2")
        .render(
            made_on=f"{made_on or date.today():%d %B %Y}",
            total=len(images),
            severities=BADGES,
            findings=[viewed(finding, picture) for finding in findings],
            shifts=shifts,
            labels=LABELS,
            style=style([STYLE]),
        )
    )


@cache
def _environment() -> Environment:
    return environment("feature_page", FOLDER)
