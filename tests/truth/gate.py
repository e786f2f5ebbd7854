"""The promotion gate keeps worse models out, and does not shut out equal ones."""

import numpy as np

from graft.evaluation.assessment import Sampling, SplitPredictions, assess
from graft.params.register_model import RegisterModelParams
from graft.serving.promotion_gate import ChampionComparison, compared_metrics, rejection_reasons
from graft.stats.model_comparison import compare
from tests.support.tasks import of_labels
from tests.truth.promise import Promise
from tests.truth.simulated import one_hot

DRAWS = 200
_CLASSES = ("ant", "bee")
_DIFFERENT = 0.04
"""Share of images that only one of two equal models gets right."""


def _promoted(images: int, drop: float, generator: np.random.Generator) -> bool:
    """Return whether a challenger whose accuracy is lower by `drop` replaces a champion of about 90 %."""
    targets = np.arange(images) % 2
    right = generator.random(images) < 0.9
    lost = right & (generator.random(images) < (_DIFFERENT / 2 + drop) / 0.9)
    gained = ~right & (generator.random(images) < _DIFFERENT / 2 / 0.1)
    champion, challenger = one_hot(right, targets), one_hot(right & ~lost | gained, targets)
    predicted = SplitPredictions(targets, challenger, challenger, np.arange(images))
    task, sampling = of_labels(*_CLASSES), Sampling(bootstrap=10)
    evaluation = assess(predicted, predicted, targets, task=task, dataset_digest="d", sampling=sampling)
    found = compare(targets, challenger, champion, metrics=compared_metrics("accuracy", evaluation), count=10)
    return not rejection_reasons(evaluation, ChampionComparison(1, _CLASSES, found), 1.0, RegisterModelParams())


def _rate(images: int, drop: float, tries: int) -> float:
    """Return how often one of `tries` challengers is promoted."""
    generator = np.random.default_rng(0)
    return float(np.mean([any(_promoted(images, drop, generator) for _ in range(tries)) for _ in range(DRAWS)]))


PROMISES = (
    Promise(
        "a model that is worse by more than the tolerance is promoted: 5 % at most",
        f"{DRAWS} challengers, 3 points below a champion of 90 %, 500 test images",
        0.0,
        0.05,
        lambda: _rate(500, 0.03, 1),
    ),
    Promise(
        "an equal model is refused each time that it is trained anew: 20 % at most",
        f"{DRAWS} times three challengers, right on 96 % of the same 500 images",
        0.0,
        0.2,
        lambda: 1 - _rate(500, 0.0, 3),
    ),
)
