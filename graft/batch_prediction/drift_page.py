"""The drift page of a batch: whether its images still resemble those the model was tested on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np

from graft.batch_prediction.tables import BatchResult, Strange
from graft.core.atomic import write_json, write_text
from graft.data.records import printable
from graft.imaging.transform import Transform
from graft.reports.page import stylesheet, template_environment
from graft.reports.svg_charts import Series, bar_chart, line_chart
from graft.reports.thumbnails import thumbnail_of_file
from graft.stats.drift import Drift, PredictionSample, Shift, cumulative

PAGE, NUMBERS = "drift.html", "drift.json"
MAX_CLASSES = 30
MAX_PICTURES, SIDE = 12, 220
UNKNOWN_REFERENCE = "The model has no predictions for held-out images, so answers and confidence cannot be compared."


class Row(NamedTuple):
    """One comparison with its name and description."""

    name: str
    description: str
    shift: Shift | None


@dataclass(frozen=True)
class TaskDrift:
    """One task of a model: its answers now and to held-out images, and how far they differ."""

    name: str
    labels: Sequence[str]
    """What an answer can be."""
    seen: PredictionSample
    reference: PredictionSample | None
    drift: Drift

    def rows(self) -> list[Row]:
        """Return the comparisons."""
        return [
            Row("Answers", "how often each class is predicted", self.drift.labels),
            Row("Confidence", "how confident the answers are", self.drift.confidence),
            Row("Features", "how far the images are from the training images", self.drift.features),
        ]


@dataclass(frozen=True)
class Picture:
    """An image that is unlike the training images, as the page shows it."""

    image: Strange
    uri: str

    @property
    def file(self) -> str:
        """Return its path as text that can be shown."""
        return printable(self.image.path)


def pictures_of(images: Sequence[Strange], folder: Path, transform: Transform) -> list[Picture]:
    """Return the images that can still be read, with their thumbnails.

    Args:
        images: below `folder`.
        folder: of the batch.
        transform: of the model, which says how to show an image.
    """
    read = transform.channels, transform.value_range
    shown = ((image, thumbnail_of_file(folder / image.path, SIDE, *read)) for image in images)
    return [Picture(image, uri) for image, uri in shown if uri]


def write_drift(
    folder: Path, model: str, result: BatchResult, tasks: Sequence[TaskDrift], pictures: Sequence[Picture] = ()
) -> None:
    """Write `drift.html` and `drift.json` into `folder`; the numbers at the top level are those of the first task."""
    numbers = tasks[0].drift.json() | {"model": model, "errors": result.errors, "abstained": result.abstained}
    if len(tasks) > 1:
        numbers["tasks"] = {one.name: one.drift.json() for one in tasks}
    write_json(folder / NUMBERS, numbers)
    write_text(folder / PAGE, render(model, result, tasks, pictures))


def render(
    model: str,
    result: BatchResult,
    tasks: Sequence[TaskDrift],
    pictures: Sequence[Picture] = (),
    made: date | None = None,
) -> str:
    """Return the page as HTML; every text that comes from the data is escaped."""
    figures = [_figures(one.labels, one.seen, one.reference) for one in tasks]
    return (
        template_environment("drift_page", package="graft.batch_prediction")
        .get_template("drift.html.j2")
        .render(
            model=model,
            made=f"{made or date.today():%d %B %Y}",
            drift=tasks[0].drift,
            result=result,
            tasks=list(zip(tasks, figures, strict=True)),
            headline=headline_of(tasks),
            next_step=next((step for one in tasks if (step := next_step(one.drift))), ""),
            pictures=pictures,
            remark="" if tasks[0].reference else UNKNOWN_REFERENCE,
            style=stylesheet(),
        )
    )


def headline_of(tasks: Sequence[TaskDrift]) -> str:
    """Return one sentence on whether the images have changed for any task; it names those for which they have."""
    drifted = [one for one in tasks if one.drift.drifted]
    if len(tasks) == 1 or not drifted:
        return headline(tasks[0].drift)
    named = "; ".join(f"{one.name}: {_moved(one.drift)}" for one in drifted)
    return f"These images differ from those the model was tested on: {named}"


def next_step(drift: Drift) -> str:
    """Return what to do if the images have changed, in one sentence; empty if they have not."""
    if not drift.drifted:
        return ""
    return (
        "If nobody has labelled these images, graft adapt <their folder> adapts the model to them where that is "
        "safe; if somebody has, graft update <their folder> learns from them"
    )


def headline(drift: Drift) -> str:
    """Return one sentence on whether the images have changed."""
    if moved := _moved(drift):
        return f"These images differ from those the model was tested on: {moved}"
    if drift.labels is None and drift.confidence is None and drift.features is None:
        return "There is nothing to compare these images with"
    return "No sign that these images differ from those the model was tested on"


def _moved(drift: Drift) -> str:
    """Return what has changed, in words."""
    named = {"answers": drift.labels, "confidence": drift.confidence, "features": drift.features}
    moved = [name for name, shift in named.items() if shift and shift.drifted]
    return " and ".join([", ".join(moved[:-1]), moved[-1]] if len(moved) > 1 else moved)


def _figures(labels: Sequence[str], now: PredictionSample, reference: PredictionSample | None) -> dict[str, str]:
    figures: dict[str, str] = {}
    if len(now.answers) == 0:
        return figures
    samples = [("now", "now", now, 1)] + ([("before", "held-out images", reference, 2)] if reference else [])
    shares = [100 * np.bincount(seen.answers, minlength=len(labels)) / len(seen.answers) for _, _, seen, _ in samples]
    for (key, name, _, colour), found in zip(samples, shares, strict=True) if len(labels) <= MAX_CLASSES else ():
        rows = [(label, float(round(share, 1))) for label, share in zip(labels, found, strict=True)]
        about = {"title": f"Answers, {name}", "x_label": "per cent of the answers"}
        figures[key] = bar_chart(rows, **about, colour=colour, longest=float(np.max(shares)))
    pairs = {
        "confidence": (now.confidences, reference.confidences if reference else None, "confidence"),
        "features": (
            now.ood_scores,
            reference.ood_scores if reference else None,
            "out-of-distribution score (1: threshold)",
        ),
    }
    for key, (values, before, x_label) in pairs.items():
        if values is None:
            continue
        series = [Series("now", *cumulative(values))]
        if before is not None:
            series.append(Series("held-out images", *cumulative(before), kind="dashed"))
        figures[key] = line_chart(
            series, title=x_label, x_label=x_label, y_label="images below", y_range=(0.0, 1.0), percent=True
        )
    return figures
