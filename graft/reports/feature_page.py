"""The feature page: copies, shift and suspected labels found in the backbone's features, each with its pictures.

The same folder holds the findings as JSON and the review queue of labels.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment

from graft.backbones.feature_store import FeatureStore
from graft.core.atomic import write_json, write_text
from graft.core.errors import DataError
from graft.data.dataset import ImageDataset
from graft.data.records import printable
from graft.evaluation.embedding_map import TILE, embedding_map, rows_on_map
from graft.evaluation.gallery import thumbnail as square
from graft.quality.dataset_shift import Shift
from graft.quality.findings import Finding
from graft.reports.embedding_view import FOLDER as EMBEDDING
from graft.reports.embedding_view import SCRIPT as EMBEDDING_SCRIPT
from graft.reports.embedding_view import STYLE as EMBEDDING_STYLE
from graft.reports.embedding_view import Colouring, EmbeddingView, embedding_view, of_labels, of_splits
from graft.reports.finding_view import BADGES, FOLDER, SIDE, STYLE, Picture, finding_view, shown_files
from graft.reports.label_page import PAGE_FILE as LABELS
from graft.reports.page import script, stylesheet, template_environment
from graft.reports.thumbnails import thumbnail

PAGE, FINDINGS = "review.html", "findings.json"
NO_FINDING = "none"


def write_review(
    folder: Path, images: ImageDataset, store: FeatureStore, findings: Sequence[Finding], shifts: Sequence[Shift]
) -> None:
    """Write the page and `findings.json` into `folder`.

    Args:
        folder: created if missing; the label review queue is in the same folder.
        images: the dataset, for thumbnails.
        store: its features, for the map.
        findings: the findings to show.
        shifts: every shift that was measured.
    """
    write_json(folder / FINDINGS, [finding.as_dict() for finding in findings])
    write_text(folder / PAGE, render(images, findings, shifts, _embedding(images, store, findings)))


def render(
    images: ImageDataset,
    findings: Sequence[Finding],
    shifts: Sequence[Shift],
    embedding: EmbeddingView | None = None,
    made_on: date | None = None,
) -> str:
    """Return the page as HTML; every text that comes from the data is escaped.

    Args:
        images: the dataset, for thumbnails.
        findings: the findings to show.
        shifts: every shift that was measured.
        embedding: the images as points of a plane.
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

    views = [finding_view(finding, picture) for finding in findings]
    return review_html(len(images), views, shifts, labels=LABELS, embedding=embedding, made_on=made_on)


def review_html(
    total: int,
    findings: Sequence[Mapping[str, Any]],
    shifts: Sequence[Shift],
    *,
    labels: str,
    embedding: EmbeddingView | None = None,
    made_on: date | None = None,
) -> str:
    """Return the page of a review as HTML.

    Args:
        total: number of images.
        findings: as `finding_view` returns them.
        shifts: every shift that was measured.
        labels: the file with suspected labels, beside the page.
        embedding: the images as points of a plane.
        made_on: date shown on the page; None: today.
    """
    code = script("page/page.js", EMBEDDING_SCRIPT)
    return (
        _environment()
        .get_template("review.html.j2")
        .render(
            made_on=f"{made_on or date.today():%d %B %Y}",
            total=total,
            severities=BADGES,
            findings=findings,
            shifts=shifts,
            labels=labels,
            embedding=embedding,
            style=stylesheet([STYLE, EMBEDDING_STYLE]),
            script=code.text,
            script_hash=code.csp_source,
        )
    )


def _embedding(images: ImageDataset, store: FeatureStore, findings: Sequence[Finding]) -> EmbeddingView | None:
    """Return a map of the images by the last group's features, those of findings before others."""
    of_path = {path: finding.kind.replace("_", " ") for finding in reversed(findings) for path in finding.files}
    kinds = images.table["path"].map(lambda path: of_path.get(path, NO_FINDING))
    rows = rows_on_map(len(images), np.flatnonzero(kinds != NO_FINDING))
    reader, spec = images.reader(), images.spec
    found = embedding_map(
        store.mapped(store.taps[-1:], rows).read(),
        rows,
        lambda row: square(reader[row], TILE, spec.channels, spec.value_range),
    )
    if found is None:
        return None
    flagged = Colouring("Finding", kinds.iloc[rows].tolist())
    return embedding_view(found, images.table, [of_labels(found, images), of_splits(found, images.table), flagged])


@cache
def _environment() -> Environment:
    return template_environment("feature_page", FOLDER, EMBEDDING)
