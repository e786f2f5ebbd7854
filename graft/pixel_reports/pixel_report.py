"""What the pages about masks and about objects have in common: which photos are shown, charts, remarks, the files."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from graft.core.atomic import write_json, write_text
from graft.dense.map_choice import MapScore
from graft.dense.pixel_scores import Bin, PixelEvaluation, Score, write_scores
from graft.evaluation.key_figures import KEY_FIGURES_FILE
from graft.pixel_reports.mask_page import Gallery, PixelReport, Triple, render, shown
from graft.reports.svg_charts import Series, line_chart
from graft.runs.run_log import Log
from graft.runs.step import Metrics

REPORT_FILE = "report.html"
WORST, OTHERS, SIDE = 10, 8, 300
Remark = tuple[str, str]
"""Tone and text."""
UNIT = (0.0, 1.0)


class Figure(NamedTuple):
    """A chart with what it says."""

    name: str
    text: str
    svg: str


def worst_and_others(scores: pd.Series) -> tuple[list[int], list[int]]:
    """Return the places of the photos with the lowest scores, and of some of the rest, from worse to better."""
    order = scores.to_numpy().argsort(kind="stable").tolist()
    worst, rest = order[:WORST], order[WORST:]
    spread = np.linspace(0, len(rest) - 1, OTHERS).astype(int) if rest else np.zeros(0, int)
    return worst, [rest[at] for at in np.unique(spread)]


def galleries(lead: str, scores: pd.Series, triples: Callable[[Sequence[int]], Iterator[Triple]]) -> list[Gallery]:
    """Return the pictures of the worst photos and of some of the rest.

    Args:
        lead: what the pictures of a photo show.
        scores: of the photos.
        triples: returns the pictures of the photos at some places.
    """
    worst, others = worst_and_others(scores)
    return [
        Gallery("worst", f"The {len(worst)} worst", lead, list(triples(worst))),
        Gallery("others", "Others, from worse to better", lead, list(triples(others))),
    ]


def learning_figure(
    points: Sequence[tuple[int, Score]], *, learner: str, metric: str, examples: str
) -> Iterator[Figure]:
    """Yield the curve of a metric by number of training examples, if there are several numbers."""
    if len(points) > 1:
        low, y, high = ([getattr(score, name) or 0.0 for _, score in points] for name in ("low", "value", "high"))
        chart = line_chart(
            [Series(learner, [float(number) for number, _ in points], y, low, high)],
            title="Learning curve",
            x_label=f"training {examples}",
            y_label=metric,
        )
        yield Figure("Learning curve.", f"{metric} on the test photos by number of training {examples}.", chart)


def depth_figure(curve: Sequence[MapScore]) -> Iterator[Figure]:
    """Yield what linear probes of pixels tell of the maps, if there are several."""
    if len(curve) > 1:
        chart = line_chart(
            [Series("linear probes", [float(at) for at in range(len(curve))], [point.accuracy for point in curve])],
            title="Maps",
            x_label="coarsest map",
            y_label="pixels right",
            x_names=[point.tap for point in curve],
        )
        yield Figure("Depth.", "Held-out pixels that a linear probe gets right, with all maps up to this one.", chart)


def calibration_figure(bins: Sequence[Bin], *, of: str, name: str, sure: str, text: str) -> Iterator[Figure]:
    """Yield how often answers are right by how sure they are."""
    if bins:
        chart = line_chart(
            [Series(of, [one.confidence for one in bins], [one.accuracy for one in bins])],
            title="Calibration",
            x_label=sure,
            y_label="right",
            x_range=UNIT,
            y_range=UNIT,
            ideal=True,
        )
        yield Figure(name, text, chart)


def gain_remarks(found: PixelEvaluation, better: str) -> Iterator[Remark]:
    """Yield whether the model is shown to be better than each baseline.

    Args:
        found: the scores.
        better: how that is said, before the baseline's name.
    """
    for name, gain in found.gains.items():
        span = f"({shown(gain.low)} to {shown(gain.high)})"
        if gain.low is not None and gain.low > 0:
            yield "good", f"{better} {name} by {shown(gain.value)} {span}."
        else:
            yield "caution", f"Not shown to be better than {name} {span}."


def key_figures(found: PixelEvaluation) -> dict[str, float | None]:
    """Return the numbers that people compare between runs, as `dvc metrics show` prints them."""
    first = found.test[found.headline]
    return {
        found.headline: first.value,
        f"{found.headline}_low": first.low,
        f"{found.headline}_high": first.high,
        **{name: score.value for name, score in found.test.items() if name != found.headline},
        **{f"{found.paired}_of_{name}": score.value for name, score in found.baselines.items()},
        "test_photos": found.photos["test"],
    }


def write_pixel_report(
    evaluation: Path, found: PixelEvaluation, photos: pd.DataFrame, report: PixelReport, log: Log
) -> Metrics:
    """Write the scores, the table of photos and the page into the folder; return the scores as plain numbers."""
    evaluation.mkdir(parents=True, exist_ok=True)
    write_scores(evaluation, found, photos)
    write_json(evaluation / KEY_FIGURES_FILE, key_figures(found))
    write_text(evaluation / REPORT_FILE, render(report))
    scores = {f"test_{name}": score.value for name, score in found.test.items() if score.value is not None}
    for name, value in scores.items():
        log.metric(name, value)
    log.summary(scores)
    log.artifact(evaluation)
    return found.model_dump(mode="json")
