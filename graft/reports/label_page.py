"""The page of the review queue: each suspected label with its picture, decided on with the keyboard or the mouse.

The decisions stay in the page; its button saves the queue as the CSV that `make relabel` takes.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from graft.core.errors import DataError
from graft.data.label_queue import QUEUE_COLUMNS
from graft.data.records import shown
from graft.reports.style import style
from graft.reports.thumbnails import thumbnail

BESIDE = Path(__file__).with_suffix("")
SIDE = 200
MOST_SHOWN = 300


def render_queue(queue: pd.DataFrame, total: int, picture: Callable[[int], bytes] | None, channels: int = 3) -> str:
    """Return the page as HTML; every text that comes from the data is escaped.

    Args:
        queue: with the columns of a review queue and `row`, surest first.
        total: how many labels were checked.
        picture: gives the file's bytes of a row; None: no pictures.
        channels: of the images.
    """
    script = (BESIDE / "labels.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rows = queue[list(QUEUE_COLUMNS)].to_dict("records")
    entries = [
        {
            **entry,
            "shown": shown(str(entry["path"])),
            "picture": _picture(int(row), picture, channels) if number < MOST_SHOWN else None,
        }
        for number, (entry, row) in enumerate(zip(rows, queue["row"], strict=True))
    ]
    return (
        _environment()
        .get_template("labels.html.j2")
        .render(
            entries=entries,
            total=total,
            columns=list(QUEUE_COLUMNS),
            labels=sorted({*queue["label"], *queue["suggested"]}),
            # What a script element holds is not HTML: only what would close it needs care.
            queue=Markup(json.dumps(rows).replace("<", "\\u003c")),
            style=style(BESIDE / "labels.css"),
            script=Markup(script),
            script_hash=f"sha256-{digest}",
        )
    )


def _picture(row: int, picture: Callable[[int], bytes] | None, channels: int) -> str | None:
    if picture is None:
        return None
    try:
        return thumbnail(picture(row), SIDE, channels=channels)
    except DataError:
        return None


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(BESIDE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
