"""The embedding map on a page: a dot per image, coloured by what is chosen; pointing shows it, a lasso picks many.

The drawing is SVG in the page's colours, so it prints and works without the script, coloured by the first choice.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup

from graft.data.dataset import ImageDataset
from graft.data.records import printable
from graft.evaluation.embedding_map import TILE, TILES_A_ROW, EmbeddingMap

if TYPE_CHECKING:  # it imports torch, which a review does not need
    from graft.evaluation.predictions import Predictions

FOLDER = "embedding_view"
STYLE, SCRIPT = f"{FOLDER}/embedding.css", f"{FOLDER}/embedding.js"
WIDTH, HEIGHT, MARGIN, RADIUS = 900, 500, 14, 4.5
COLOURS = 7
"""Values with a colour of their own; the rest share the eighth."""
NO_LABEL = "no label"
UNASKED = "trained on"
"""Of images whose answers say nothing new."""
ANSWERS = ("right", "wrong", UNASKED)
LIKENESS = ("typical", "less typical", "unlike training", UNASKED)


@dataclass(frozen=True)
class Colouring:
    """What images can be told apart by."""

    name: str
    values: Sequence[str]
    """Of each image on the map (n,)."""
    order: Sequence[str] = ()
    """Values in the order of their colours; others follow, the most frequent first."""


def of_labels(found: EmbeddingMap, images: ImageDataset) -> Colouring:
    """Return the labels of the images on a map."""
    task = images.task
    names = task.names(images.targets()[found.rows])
    return Colouring("Label", [name or NO_LABEL for name in names], task.answer_names)


def of_splits(found: EmbeddingMap, table: pd.DataFrame) -> Colouring:
    """Return the splits of the images on a map."""
    return Colouring("Split", [str(split) for split in table["split"].iloc[found.rows]], ("train", "val", "test"))


def of_answers(found: EmbeddingMap, images: ImageDataset, answers: "Predictions") -> list[Colouring]:
    """Return what a model's answers tell of the images on a map: right or wrong, and how unlike training images."""
    right = images.task.correct(answers.model, answers.targets)
    verdict = {int(row): "right" if one else "wrong" for row, one in zip(answers.rows, right, strict=True)}
    colourings = [Colouring("Answer", [verdict.get(row, UNASKED) for row in found.rows.tolist()], ANSWERS)]
    if answers.ood is not None:
        likeness = {int(row): _likeness(score) for row, score in zip(answers.rows, answers.ood.tolist(), strict=True)}
        values = [likeness.get(row, UNASKED) for row in found.rows.tolist()]
        colourings.append(Colouring("Unlike training", values, LIKENESS))
    return colourings


def _likeness(score: float) -> str:
    """Return in words how unlike training an image is; 1 is the threshold."""
    if math.isnan(score):
        return UNASKED
    return LIKENESS[0] if score < 0.5 else LIKENESS[1] if score < 1 else LIKENESS[2]


@dataclass(frozen=True)
class EmbeddingView:
    """What the template shows."""

    svg: Markup
    points: str
    """JSON for the script."""
    legend: Sequence[tuple[str, int, int]]
    """Of the first colouring: value, its colour (1 to 8), and how many images have it."""
    names: Sequence[str]
    """Of the colourings."""
    sheet: str
    shown: int
    images: int


def embedding_view(found: EmbeddingMap, table: pd.DataFrame, colourings: Sequence[Colouring]) -> EmbeddingView:
    """Return the drawing and the data of a map.

    Args:
        found: the map.
        table: of the whole dataset.
        colourings: the first one colours the drawing.
    """
    shown = table.iloc[found.rows]
    coded = [_coded(one) for one in colourings]
    content = {
        "ids": shown["id"].tolist(),
        "paths": [printable(path) for path in shown["path"]],
        "colourings": coded,
        "sheet": {"tile": TILE, "row": TILES_A_ROW},
    }
    first = coded[0]
    return EmbeddingView(
        _drawing(found, first["codes"], first["colours"]),
        json.dumps(content, ensure_ascii=False, separators=(",", ":")),
        list(zip(first["values"], first["colours"], first["counts"], strict=True)),
        [one.name for one in colourings],
        found.sheet,
        len(found.rows),
        len(table),
    )


def _coded(one: Colouring) -> dict[str, Any]:
    counted = Counter(one.values)
    first = [value for value in one.order if counted[value]]
    others = sorted(counted.keys() - set(first), key=lambda value: (-counted[value], value))
    values = [*first, *others]
    place: Mapping[str, int] = {value: number for number, value in enumerate(values)}
    return {
        "name": one.name,
        "values": values,
        "counts": [counted[value] for value in values],
        "colours": [min(number, COLOURS) + 1 for number in range(len(values))],
        "codes": [place[value] for value in one.values],
    }


def _drawing(found: EmbeddingMap, codes: Sequence[int], colours: Sequence[int]) -> Markup:
    across, down = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN
    dots = "".join(
        f'<circle class="s{colours[code]}" cx="{MARGIN + x * across:.1f}" cy="{MARGIN + y * down:.1f}" r="{RADIUS}"/>'
        for (x, y), code in zip(found.places.tolist(), codes, strict=True)
    )
    return Markup(
        f'<svg class="map" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Images as dots; similar ones lie near '
        f'each other">{dots}<path class="lasso"/></svg>'
    )
