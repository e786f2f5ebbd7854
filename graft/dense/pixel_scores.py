"""The scores of a model about pixels, as `evaluate` writes them and page, gate and a later champion read them."""

from pathlib import Path
from typing import Literal, TypeVar

import pandas as pd
from pydantic import BaseModel, ConfigDict

from graft.core.artifact import read_spec
from graft.core.atomic import write_json
from graft.core.parquet import read_table, write_table
from graft.stats.confidence_intervals import Interval
from graft.tasks.pixels import PixelTask

SCORES_FILE, PHOTOS_FILE = "scores.json", "photos.parquet"
"""The second has one row per test photo: id, path, group, mean_iou and the other scores of the photo."""


class Part(BaseModel):
    """Base of everything in `scores.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Score(Part):
    """A number and its interval; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, interval: Interval) -> "Score":
        """Return an interval with None in place of NaN."""
        value, low, high = (None if number != number else float(number) for number in interval)
        return cls(value=value, low=low, high=high)


class Bin(Part):
    """Pixels or objects of about one confidence."""

    confidence: float
    accuracy: float
    share: float


class PixelEvaluation(Part):
    """What the gate and the page need of a model of any task about pixels."""

    version: Literal[1] = 1
    task: PixelTask
    classes: tuple[str, ...]
    dataset_digest: str
    confidence: float
    photos: dict[str, int]
    """Number of photos by split."""
    headline: str
    """The metric that is told first."""
    paired: str
    """Column of the table of photos that is compared with a baseline's and a champion's, photo by photo."""
    test: dict[str, Score]
    val: dict[str, Score]
    baselines: dict[str, Score]
    """The paired metric of the same photos by models that cannot see, or have learnt nothing before."""
    gains: dict[str, Score]
    """That of this model minus each baseline's, photo by photo."""
    bins: tuple[Bin, ...] = ()
    """How sure answers are, and how often right: pixels, or objects."""


E = TypeVar("E", bound=PixelEvaluation)


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """Return the expected calibration error: how far confidence and accuracy lie apart, by bin."""
    return float(sum(one.share * abs(one.confidence - one.accuracy) for one in bins))


def write_scores(folder: Path, evaluation: PixelEvaluation, photos: pd.DataFrame) -> None:
    """Write the scores and the table of photos into `folder`, which exists."""
    write_json(folder / SCORES_FILE, evaluation.model_dump(mode="json"))
    write_table(folder / PHOTOS_FILE, photos)


def read_scores(folder: Path, kind: type[E]) -> tuple[E, pd.DataFrame]:
    """Read what `write_scores` wrote.

    Args:
        folder: of the evaluation.
        kind: of the scores.

    Raises:
        DataError: if there is none.
    """
    found = read_spec(folder / SCORES_FILE, kind, content="evaluation of pixels", step="evaluate")
    return found, read_table(folder / PHOTOS_FILE)
