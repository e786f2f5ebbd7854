"""Splits of groups that were drawn at random are rarely called shifted, and shifted ones are."""

import numpy as np

from graft.params.validate_data import Thresholds
from graft.quality import two_sample_forest
from graft.quality.dataset_shift import embedding_shift
from tests.truth.promise import Promise, at_least

DRAWS = 60
_TRAIN, _TEST, _FRAMES = 16, 8, 20


def _called_shifted(by: float, draws: int) -> float:
    generator, least = np.random.default_rng(0), Thresholds().shift
    trees, two_sample_forest.TREES = two_sample_forest.TREES, 5
    called = []
    try:
        for seed in range(draws):
            of_frame = np.repeat(np.arange(_TRAIN + _TEST), _FRAMES)
            vectors = generator.normal(size=(_TRAIN + _TEST, 4))[of_frame]
            vectors += 0.3 * generator.normal(size=vectors.shape)
            second = of_frame >= _TRAIN
            vectors[second, 0] += by
            groups = of_frame[~second], of_frame[second]
            found = embedding_shift(vectors[~second], vectors[second], groups, ("train", "test"), seed, "features")
            called.append(found.low > least)
    finally:
        two_sample_forest.TREES = trees
    return float(np.mean(called))


PROMISES = (
    Promise(
        "a random split of videos is called shifted: 5 % at most",
        f"{DRAWS} splits of {_TRAIN} and {_TEST} videos of {_FRAMES} frames",
        0.0,
        0.05,
        lambda: _called_shifted(0.0, DRAWS),
    ),
    Promise(
        "another camera is called shifted: 90 %",
        "20 such splits, one feature of the test moved by four deviations",
        *at_least(0.9, 20),
        lambda: _called_shifted(4.0, 20),
    ),
)
