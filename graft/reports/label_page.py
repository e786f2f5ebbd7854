"""The label review page: each suspected label with its picture; the user decides with the keyboard or the mouse.

The decisions stay in the page until its button saves the queue as the CSV that `make relabel` takes.
"""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from jinja2 import Environment
from markupsafe import Markup

from graft.core.atomic import replacing
from graft.core.csv_table import as_text
from graft.core.errors import DataError
from graft.data.label_queue import QUEUE_COLUMNS, TASK_COLUMN
from graft.data.records import printable
from graft.imaging.value_range import ValueRange
from graft.quality.findings import KINDS, Finding, make_finding
from graft.quality.label_errors import find_label_errors
from graft.reports.page import script, stylesheet, template_environment
from graft.reports.thumbnails import thumbnail

QUEUE_FILE, PAGE_FILE = "queue.csv", "labels.html"
SIDE = 200
MAX_SHOWN = 300


def review_labels(
    folder: Path,
    table: pd.DataFrame,
    probabilities: npt.NDArray[np.floating],
    classes: Sequence[str],
    picture: Callable[[int], bytes] | None = None,
    channels: int = 3,
    values: ValueRange | None = None,
) -> Finding | None:
    """Write `queue.csv` and `labels.html` into `folder` and return the finding; None if no label is suspected.

    Args:
        folder: created if missing. The queue is written even if it is empty.
        table: n rows with `path` and `label`.
        probabilities: out-of-fold probabilities (n, classes).
        classes: the labels of the columns of `probabilities`.
        picture: returns the bytes of the file in a row of `table`; without it the page shows no pictures.
        channels: of the images.
        values: what is black and white in wide images.

    Raises:
        DataError: see `find_label_errors`.
    """
    return write_queue(folder, find_label_errors(table, probabilities, classes), len(table), picture, channels, values)


def write_queue(
    folder: Path,
    queue: pd.DataFrame,
    checked: int,
    picture: Callable[[int], bytes] | None = None,
    channels: int = 3,
    values: ValueRange | None = None,
) -> Finding | None:
    """Write `queue.csv` and `labels.html` into `folder` and return the finding; None if no label is suspected.

    Args:
        folder: created if missing.
        queue: see `render_queue`.
        checked: number of labels that were checked.
        picture: returns the bytes of the file in a row; without it the page shows no pictures.
        channels: of the images.
        values: what is black and white in wide images.
    """
    with replacing(folder / QUEUE_FILE) as file:
        cells = queue.map(lambda value: as_text(value) if isinstance(value, str) else value)
        cells.to_csv(file, columns=_columns(queue), index=False)
    with replacing(folder / PAGE_FILE) as file:
        file.write_text(render_queue(queue, checked, picture, channels, values), encoding="utf-8")
    if queue.empty:
        return None
    text = f"{len(queue)} of {checked} labels look wrong"
    return make_finding("label_error", KINDS["label_error"].severity, list(queue["path"]), text)


def render_queue(
    queue: pd.DataFrame,
    total: int,
    picture: Callable[[int], bytes] | None,
    channels: int = 3,
    values: ValueRange | None = None,
) -> str:
    """Return the page as HTML; every text that comes from the data is escaped.

    Args:
        queue: with the columns of a review queue and `row`, most suspicious label first; of several tasks also `task`.
        total: number of labels that were checked.
        picture: returns the bytes of the file in a row; None: no pictures.
        channels: of the images.
        values: what is black and white in wide images.
    """
    decisions = script("label_page/labels.js")
    columns = _columns(queue)
    rows = queue[columns].to_dict("records")
    labels: dict[str, set[str]] = {}
    for entry in rows:
        labels.setdefault(entry.get(TASK_COLUMN, ""), set()).update((entry["label"], entry["suggested"]))
    entries = [
        {
            **entry,
            "labels": sorted(labels[entry.get(TASK_COLUMN, "")]),
            "shown": printable(str(entry["path"])),
            "picture": _picture(int(row), picture, channels, values) if number < MAX_SHOWN else None,
        }
        for number, (entry, row) in enumerate(zip(rows, queue["row"], strict=True))
    ]
    return (
        _environment()
        .get_template("labels.html.j2")
        .render(
            entries=entries,
            total=total,
            columns=columns,
            # The content of a script element is not HTML; only a closing tag in it must be escaped.
            queue=Markup(json.dumps(rows).replace("<", "\\u003c")),
            style=stylesheet(["label_page/labels.css"]),
            script=decisions.text,
            script_hash=decisions.csp_source,
        )
    )


def _columns(queue: pd.DataFrame) -> list[str]:
    return [TASK_COLUMN, *QUEUE_COLUMNS] if TASK_COLUMN in queue else list(QUEUE_COLUMNS)


def _picture(row: int, picture: Callable[[int], bytes] | None, channels: int, values: ValueRange | None) -> str | None:
    if picture is None:
        return None
    try:
        return thumbnail(picture(row), SIDE, channels=channels, values=values)
    except DataError:
        return None


@cache
def _environment() -> Environment:
    return template_environment("label_page")
