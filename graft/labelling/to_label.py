"""The list of images to label next: a queue that `relabel` takes, and a page on which a person decides.

`to_label.csv` has the columns of a review queue (see `data.label_queue`) and `reason`; `label` is empty, because the
images have none. The page saves the same file with the decisions.
"""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from graft.core.atomic import write_text
from graft.core.csv_table import CsvTable, Dialect, as_text
from graft.data.label_queue import QUEUE_COLUMNS
from graft.data.records import printable
from graft.imaging.transform import Transform
from graft.labelling.choice import Choice, Chosen
from graft.labelling.pool import Pool
from graft.reports.page import script, stylesheet, template_environment
from graft.reports.thumbnails import thumbnail_of_file

QUEUE, PAGE = "to_label.csv", "to_label.html"
COLUMNS = (*QUEUE_COLUMNS, "reason")
SIDE, MAX_SHOWN = 200, 300


def write_list(out: Path, folder: Path, pool: Pool, choice: Choice, transform: Transform) -> None:
    """Write `to_label.csv` and `to_label.html` into `out`.

    Args:
        out: exists.
        folder: of the images.
        pool: the images that were chosen from.
        choice: of images to label.
        transform: of the model, which says how to show an image.
    """
    rows = [_row(pool, one) for one in (*choice.next, *choice.unlike)]
    cells = tuple(tuple(as_text(str(row[name])) for name in COLUMNS) for row in rows)
    table = CsvTable(out / QUEUE, COLUMNS, cells, tuple(range(2, len(rows) + 2)), Dialect())
    table.write(table.file)
    write_text(out / PAGE, _page(folder, pool, choice, rows, transform))


def _row(pool: Pool, one: Chosen) -> dict[str, Any]:
    image = one.row
    return {
        "path": pool.paths[image],
        "label": "",
        "suggested": pool.labels[pool.answer[image]],
        "score": f"{pool.confidence[image]:.3f}",
        "decision": "",
        "new_label": "",
        "reason": one.reason,
    }


def _page(folder: Path, pool: Pool, choice: Choice, rows: Sequence[dict[str, Any]], transform: Transform) -> str:
    """Return the page as HTML; every text that comes from the data is escaped."""
    decisions = script("label_page/labels.js")
    read = transform.channels, transform.value_range
    entries = [
        {
            **row,
            "shown": printable(row["path"]),
            "picture": thumbnail_of_file(folder / row["path"], SIDE, *read) if number < MAX_SHOWN else None,
        }
        for number, row in enumerate(rows)
    ]
    first = len(choice.next)
    return (
        template_environment("to_label_page", package="graft.labelling")
        .get_template("to_label.html.j2")
        .render(
            folder=shlex.quote(str(folder)),
            next=entries[:first],
            unlike=entries[first:],
            first=first,
            choice=choice,
            images=len(pool),
            labels=pool.labels,
            columns=COLUMNS,
            file=QUEUE,
            # The content of a script element is not HTML; only a closing tag in it must be escaped.
            queue=Markup(json.dumps(rows).replace("<", "\\u003c")),
            style=stylesheet(["label_page/labels.css"]),
            script=decisions.text,
            script_hash=decisions.csp_source,
        )
    )
