"""Several runs side by side: their scores on the test images, each against the best, and in what the runs differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from graft.core.errors import DataError
from graft.evaluation.held_out_table import read_predictions
from graft.evaluation.schema import Estimate, Evaluation, read_evaluation
from graft.runs.recorded_runs import RecordedRun
from graft.stats.metrics import LOWER_IS_BETTER
from graft.stats.model_comparison import PairedRates, paired_rates


@dataclass(frozen=True)
class Entrant:
    """A run and what it measured on its test images."""

    run: RecordedRun
    evaluation: Evaluation
    predictions: pd.DataFrame
    """Of the test images, `PREDICTION_COLUMNS`."""

    @classmethod
    def read(cls, run: RecordedRun, folder: Path) -> "Entrant":
        """Read the evaluation of a run; `folder` takes its files."""
        place = run.download("evaluate", folder)
        table = read_predictions(place)
        return cls(run, read_evaluation(place), table[table["split"] == "test"].reset_index(drop=True))


class Place(NamedTuple):
    """A run's place."""

    entrant: Entrant
    score: Estimate
    """Of the headline metric."""
    behind: PairedRates | None
    """The best run's share of right answers minus this one's, on the test images that both have; None for the best
    itself, and if they share none."""
    shared: int
    """Test images that both have."""


class Difference(NamedTuple):
    """Something in which the runs differ."""

    kind: str
    """`data`, `parameter` or `code`."""
    name: str
    values: tuple[str, ...]
    """One for each place; empty where a run has none."""


class Leaderboard(NamedTuple):
    """The runs in the order of their scores."""

    metric: str
    places: tuple[Place, ...]
    differences: tuple[Difference, ...]


def leaderboard(entrants: Sequence[Entrant]) -> Leaderboard:
    """Rank runs by the headline metric of their task, best first.

    The runs are compared image by image, with groups of images as the unit (`paired_rates`), so a difference can be
    clear although the intervals of the two scores overlap.

    Raises:
        DataError: if the runs answer different questions, or measure them differently.
    """
    tasks = {(one.evaluation.task.question, one.evaluation.task.headline) for one in entrants}
    if len(tasks) > 1:
        asked = "; ".join(f"{one.run.name}: {', '.join(one.evaluation.classes[:4])}" for one in entrants)
        raise DataError(f"these runs cannot be compared, since they learnt different labels ({asked})")
    metric = entrants[0].evaluation.task.headline
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0
    scores = [one.evaluation.test[metric] for one in entrants]
    undefined = float("inf")
    order = sorted(
        range(len(entrants)),
        key=lambda at: undefined if scores[at].value is None else sign * scores[at].value,  # type: ignore[operator]
    )
    best = entrants[order[0]]
    places = tuple(_place(entrants[at], scores[at], best) for at in order)
    return Leaderboard(metric, places, differences([place.entrant for place in places]))


def _place(one: Entrant, score: Estimate, best: Entrant) -> Place:
    if one is best:
        return Place(one, score, None, len(one.predictions))
    both = best.predictions.merge(one.predictions, on="id", suffixes=("", "_other"))
    if both.empty:
        return Place(one, score, None, 0)
    right = (both["predicted"] == both["label"]).to_numpy()
    other = (both["predicted_other"] == both["label_other"]).to_numpy()
    groups = both["group"].to_numpy()
    return Place(one, score, paired_rates(right, other, groups, one.evaluation.confidence), len(both))


def differences(entrants: Sequence[Entrant]) -> tuple[Difference, ...]:
    """Return in what runs differ: their images, parameters and code; nothing that is the same for all."""
    rows = [
        ("data", "images, labels and splits", [one.evaluation.dataset_digest[:12] for one in entrants]),
        ("data", "training images", [f"{one.evaluation.images['train']:,}" for one in entrants]),
        ("data", "test images", [f"{one.evaluation.images['test']:,}" for one in entrants]),
        *(("parameter", name, values) for name, values in _by_name([one.run.params for one in entrants]).items()),
        ("code", "git revision", [one.run.code[:12] for one in entrants]),
        *(("code", name.removeprefix("env."), values) for name, values in _versions(entrants).items()),
    ]
    return tuple(Difference(kind, name, tuple(values)) for kind, name, values in rows if len(set(values)) > 1)


def _versions(entrants: Sequence[Entrant]) -> dict[str, list[str]]:
    tags = [{name: value for name, value in one.run.tags.items() if name.startswith("env.")} for one in entrants]
    return _by_name(tags)


def _by_name(maps: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    names = sorted({name for one in maps for name in one})
    return {name: [one.get(name, "") for one in maps] for name in names}


def seconds(entrant: Entrant) -> float:
    """Return the time of all steps of a run; of steps that were not run again, when they ran."""
    return float(np.sum(list(entrant.run.seconds.values())))
