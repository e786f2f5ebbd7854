"""The feature page: copies, shift and suspected labels found in the backbone's features, each with its pictures.

The same folder holds the findings as JSON and the review queue of labels.
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
from graft.reports.finding_view import BADGES, FOLDER, SIDE, STYLE, Picture, finding_view, shown_files
from graft.reports.label_page import PAGE_FILE as LABELS
from graft.reports.page import stylesheet, template_environment
from graft.reports.thumbnails import thumbnail

PAGE, FINDINGS = "review.html", "findings.json"


def write_review(folder: Path, images: ImageDataset, findings: Sequence[Finding], shifts: Sequence[Shift]) -> None:
    """Write the page and `findings.json` into `folder`.

    Args:
        folder: created if missing; the label review queue is in the same folder.
        images: the dataset, for thumbnails.
        findings: the findings to show.
        shifts: every shift that was measured.
    """
    write_json(folder / FINDINGS, [finding.as_dict() for finding in findings])
    write_text(folder / PAGE, render(images, findings, shifts))


def render(
    images: ImageDataset, findings: Sequence[Finding], shifts: Sequence[Shift], made_on: date | None = None
) -> str:
    """Return the page as HTML; every text that comes from the data is escaped.

    Args:
        images: the dataset, for thumbnails.
        findings: the findings to show.
        shifts: every shift that was measured.
        made_on: date shown on the page; None: today.
    """
    shown_paths = list(dict.fromkeys(path for finding in findings for path in shown_files(finding)))
    table = images.table[images.table["path"].isin(shown_paths)]
    rows = dict(zip(table["path"], table.index.tolist(), strict=True))
    reader = images.reader()
    uris: dict[str, str | None] = {}
    for path in shown_paths:
        try:
            uris[path] = thumbnail(
                reader[rows[path]], SIDE, channels=images.spec.channels, values=images.spec.value_range
            )
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
            findings=[finding_view(finding, picture) for finding in findings],
            shifts=shifts,
            labels=LABELS,
            style=stylesheet([STYLE]),
        )
    )


@cache
def _environment() -> Environment:
    return template_environment("feature_page", FOLDER)
