"""A difference between two models is claimed in 5 % of cases at most if there is none, and found if there is one."""

import numpy as np

from graft.stats.metrics import METRICS
from graft.stats.model_comparison import compare
from tests.truth.promise import Promise, at_least, at_most
from tests.truth.simulated import one_hot

DRAWS = 300
_ACCURACY = {"accuracy": METRICS["accuracy"]}


def _claimed(images: int, first: float, second: float) -> float:
    generator, targets = np.random.default_rng(0), np.arange(images) % 2
    outcomes = []
    for seed in range(DRAWS):
        models = [one_hot(generator.random(images) < rate, targets) for rate in (first, second)]
        outcomes.append(compare(targets, *models, metrics=_ACCURACY, count=100, seed=seed).outcome)
    return float(np.mean([outcome != "no detectable difference" for outcome in outcomes]))


PROMISES = (
    Promise(
        "equal models are called different: 5 % at most",
        f"{DRAWS} pairs of 90 % accuracy on 150 images",
        *at_most(0.05, DRAWS),
        lambda: _claimed(150, 0.9, 0.9),
    ),
    Promise(
        "a difference of 10 points on 400 images is found: 80 %",
        f"{DRAWS} pairs of 90 and 80 %, right on different images",
        *at_least(0.8, DRAWS),
        lambda: _claimed(400, 0.9, 0.8),
    ),
)
