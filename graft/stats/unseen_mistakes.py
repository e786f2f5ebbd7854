"""How far a metric may be from its estimate for mistakes that the images do not show: intervals at the boundary.

If all images of a class are right, every resample of them is right too, so the bootstrap knows no doubt: ten right
answers and one are the same to it. Wilson's interval knows better, and so do its relatives:

- Metrics of answers (balanced accuracy, F1): among n right answers of a class, a share of z^2 / (n + z^2) of unseen
  wrong ones is possible. One image is added that has the likeliest wrong answer and that share of its class's weight.
  For the recall of one class that is Wilson's limit. Unseen mistakes may also be of all classes together, with the
  share that follows from the number of all images: so no metric is more certain than the accuracy.
- AUROC of a class against the rest: Newcombe's fifth method, Wilson's idea with the variance of Hanley and McNeil
  (Newcombe, Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2, Statistics in
  Medicine 2006).
- Average precision: Wilson's interval of as many trials as there are positives (Boyd, Eng and Page, Area under the
  precision-recall curve, ECML 2013).

The changes by class are independent, so their squares add up (Zou and Donner, Construction of confidence limits about
effect measures, Statistics in Medicine 2008).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from graft.stats.confidence_intervals import effective_size, wilson
from graft.stats.metrics import (
    LOWER_IS_BETTER,
    MOST_RANKED,
    Floats,
    Metric,
    RankingMetric,
    Targets,
    Values,
    predictions,
)
from graft.stats.ranking_metrics import precision_area, rankings, roc_area

CHUNK_CELLS = 500_000
"""Weights held in memory at a time: 4 MB."""
_NOTHING = np.zeros(1)


@dataclass(frozen=True)
class UnseenMistakes:
    """What unseen images of each of k classes may change, in every metric for which that is known."""

    falls: Mapping[str, Values]
    """How much lower a metric may be for one class's sake, (k,)."""
    rises: Mapping[str, Values]
    """How much higher, (k,)."""
    ranking: frozenset[str] = frozenset()
    """The ranking metrics among them."""
    together: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """How much lower and higher a metric of answers may be for the sake of all classes at once."""
    represented: float = 1.0
    """Classes that each of the k stands for."""

    def reach(self, metric: str) -> tuple[float, float]:
        """Return how far below and above its estimate a metric may be."""
        fall, rise = self.together.get(metric, (0.0, 0.0))
        return (
            max(fall, self._joined(self.falls.get(metric, _NOTHING))),
            max(rise, self._joined(self.rises.get(metric, _NOTHING))),
        )

    def reach_of_difference(self, other: "UnseenMistakes", metric: str) -> tuple[float, float]:
        """Return how far below and above its estimate the difference of a metric from another model's may be.

        At worst, the other model is right where this one is wrong. Rankings of the same images by two models change
        together, so there only the larger of the two changes counts.
        """
        if metric not in self.falls or metric not in other.falls:
            return 0.0, 0.0
        both: Callable[[Values, Values], Values] = np.maximum if metric in self.ranking else np.add
        (fall, rise), (others_fall, others_rise) = (found.together.get(metric, (0.0, 0.0)) for found in (self, other))
        return (
            max(fall + others_rise, self._joined(both(self.falls[metric], other.rises[metric]))),
            max(rise + others_fall, self._joined(both(self.rises[metric], other.falls[metric]))),
        )

    def _joined(self, changes: Values) -> float:
        return math.sqrt(self.represented * float(changes @ changes))


NOTHING = UnseenMistakes({}, {})


def independent_images(targets: Targets, probabilities: Floats, groups: npt.NDArray[Any] | None) -> dict[int, float]:
    """Return how many independent images tell as much as those of each class, in their groups (n,), do."""
    right = predictions(probabilities) == targets
    classes = {int(label): targets == label for label in np.unique(targets)}
    if groups is None:
        return {label: float(held.sum()) for label, held in classes.items()}
    return {label: effective_size(right[held], groups[held]) for label, held in classes.items()}


def unseen_mistakes(
    targets: Targets,
    probabilities: Floats,
    sizes: Mapping[int, float],
    metrics: Mapping[str, Metric],
    confidence: float = 0.95,
) -> UnseenMistakes:
    """Measure what unseen mistakes may do to each metric for which higher is better.

    More than `MOST_RANKED` classes are represented by that many.

    Args:
        targets: int64 (n,), the class of each image.
        probabilities: float (n, C).
        sizes: how many independent images each class stands for, see `independent_images`.
        metrics: by name.
        confidence: of the interval.
    """
    metrics = {name: metric for name, metric in metrics.items() if name not in LOWER_IS_BETTER}
    present = np.unique(targets)
    if not metrics or not len(present):
        return NOTHING
    chosen = present[np.linspace(0, len(present) - 1, min(len(present), MOST_RANKED)).round().astype(np.int64)]
    falls: dict[str, Values] = {}
    rises: dict[str, Values] = {}
    ranking = {name: metric for name, metric in metrics.items() if isinstance(metric, RankingMetric)}
    for name, metric in ranking.items():
        falls[name], rises[name] = _of_ranking(metric, targets, probabilities, sizes, chosen, confidence)
    of_answers = {name: metric for name, metric in metrics.items() if name not in ranking}
    together: dict[str, tuple[float, float]] = {}
    represented = len(present) / len(chosen)
    for name, (lower, higher) in _of_answers(of_answers, targets, probabilities, sizes, chosen, confidence).items():
        falls[name], rises[name] = lower[:-1], higher[:-1]
        together[name] = represented * float(lower[-1]), represented * float(higher[-1])
    return UnseenMistakes(falls, rises, frozenset(ranking), together, represented)


def _of_answers(
    metrics: Mapping[str, Metric],
    targets: Targets,
    probabilities: Floats,
    sizes: Mapping[int, float],
    classes: Targets,
    confidence: float,
) -> dict[str, tuple[Values, Values]]:
    """Return how far each metric falls with a wrong and rises with a right image of each class and of all, (k + 1,)."""
    number, images = len(classes), len(targets)
    added = [
        _answer(probabilities[targets == label], int(label), correct) for correct in (False, True) for label in classes
    ]
    truth, answers = np.concatenate([targets, classes, classes]), np.concatenate([probabilities, added])
    squared = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    rows: list[Values] = []
    found: dict[str, list[Values]] = {name: [] for name in metrics}
    at_once = max(1, CHUNK_CELLS // len(truth))
    everyone = squared / (sum(sizes.values()) + squared)
    held = [targets == label for label in classes]
    alone = [{place: squared / (sizes[int(label)] + squared)} for place, label in enumerate(classes)]
    shares: list[dict[int, float]] = [*alone, dict.fromkeys(range(number), everyone)]
    cases = [(0, {}), *((0, of) for of in shares), *((number, of) for of in shares)]
    for case, (first, changed) in enumerate(cases, start=1):
        row = np.ones(len(truth))
        row[images:] = 0.0
        for place, share in changed.items():
            row[:images][held[place]] = 1 - share
            row[images + first + place] = share * held[place].sum()
        rows.append(row)
        if len(rows) == at_once or case == len(cases):
            for name, metric in metrics.items():
                found[name].append(metric(truth, answers, np.stack(rows)))
            rows = []
    changes = {name: np.concatenate(parts) for name, parts in found.items()}
    return {
        name: (
            np.nan_to_num(np.maximum(values[0] - values[1 : 2 + number], 0.0)),
            np.nan_to_num(np.maximum(values[2 + number :] - values[0], 0.0)),
        )
        for name, values in changes.items()
    }


def _answer(of_class: Floats, label: int, correct: bool) -> Values:
    """Return the probabilities (C,) of an image of a class: predicted correctly, or with its likeliest mistake."""
    mean = np.asarray(of_class.mean(axis=0), dtype=np.float64)
    mean[label] = -1.0
    # The others follow in their order: the right class is the least probable one, for top-3 accuracy too.
    row = np.argsort(np.argsort(mean)) / len(mean) ** 2
    row[label if correct else int(np.argmax(mean))] = 1.0
    return np.asarray(row / row.sum(), dtype=np.float64)


def _of_ranking(
    metric: RankingMetric,
    targets: Targets,
    probabilities: Floats,
    sizes: Mapping[int, float],
    classes: Targets,
    confidence: float,
) -> tuple[Values, Values]:
    """Return how far a ranking metric falls and rises for the sake of each class against the rest, (k,)."""
    pair = probabilities.shape[1] == 2
    ranked = [metric.positive] if pair else [int(label) for label in classes]
    falls, rises = np.zeros(len(classes)), np.zeros(len(classes))
    share = 1.0 if pair else 1 / len(np.unique(targets))
    everyone = sum(sizes.values())
    with np.errstate(invalid="ignore", divide="ignore"):
        areas = [
            float(metric.area(one)[0]) for one in rankings(targets, probabilities, np.ones((1, len(targets))), ranked)
        ]
    for place, (label, area) in enumerate(zip(ranked, areas, strict=True)):
        positives = sizes.get(label, 0.0)
        others = everyone - positives
        if math.isnan(area) or positives <= 0 or others <= 0:
            continue
        if metric.area is roc_area:
            low, high = auroc_limits(area, positives, others, confidence)
        elif metric.area is precision_area:
            _, low, high = wilson(area * positives, positives, confidence)
        else:
            continue
        falls[place], rises[place] = share * max(0.0, area - low), share * max(0.0, high - area)
    return falls, rises


def auroc_limits(area: float, positives: float, negatives: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return Newcombe's limits of an AUROC: the areas from which the estimate is just not surprisingly far.

    Args:
        area: the estimate, 0 to 1.
        positives: independent images of the class.
        negatives: those of the others.
        confidence: of the interval.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    half = (positives + negatives) / 2 - 1

    def surprising(true: float) -> bool:
        pairs = 1 + half * ((1 - true) / (2 - true) + true / (1 + true))
        return (area - true) ** 2 > z * z * true * (1 - true) * max(pairs, 0.0) / (positives * negatives)

    return _limit(surprising, 0.0, area), _limit(surprising, 1.0, area)


def _limit(surprising: Callable[[float], bool], outer: float, inner: float) -> float:
    """Return where a value between two ends stops being surprising."""
    if outer == inner:
        return inner
    for _ in range(50):
        middle = (outer + inner) / 2
        outer, inner = (middle, inner) if surprising(middle) else (outer, middle)
    return inner
