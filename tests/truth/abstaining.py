"""Prediction sets contain the right label as often as stated, and images like the validation images raise no alarm."""

import numpy as np

from graft.stats.abstention import Abstention, fit_abstention
from graft.stats.conformal import covers, fit_quantile, prediction_sets
from graft.stats.metrics import predictions, softmax
from tests.truth.promise import Promise
from tests.truth.simulated import labelled

DRAWS = 200


def _coverage(coverage: float, images: int, wrong: float) -> float:
    """Return the mean coverage of sets; the logits of the model are off by normal noise of deviation `wrong`."""
    generator = np.random.default_rng(0)
    rates = []
    for _ in range(DRAWS):
        logits, targets = labelled(images + 500, 5, generator)
        served = softmax(logits + generator.normal(scale=wrong, size=logits.shape) if wrong else logits)
        quantile = fit_quantile(served[:images], targets[:images], coverage)
        rates.append(covers(prediction_sets(served[images:], quantile), targets[images:]).mean())
    return float(np.mean(rates))


def _fitted(generator: np.random.Generator) -> tuple[Abstention, np.ndarray, np.ndarray, np.ndarray]:
    """Return a rule fitted on 600 training and 300 validation images, and probabilities, features and labels of 500."""
    centres = generator.normal(scale=1.5, size=(4, 64))
    logits, targets = labelled(1400, 4, generator, 1.0)
    features = np.abs(centres[targets] + generator.normal(size=(1400, 64)) + 2)
    probabilities = softmax(logits)
    train, val, new = slice(600), slice(600, 900), slice(900, None)
    rule = fit_abstention(features[train], targets[train], features[val], probabilities[val], targets[val])
    assert rule is not None
    return rule, probabilities[new], features[new], targets[new]


def _flagged(foreign: bool) -> float:
    generator = np.random.default_rng(0)
    rates = []
    for _ in range(60):
        rule, probabilities, features, _ = _fitted(generator)
        if foreign:
            features = np.abs(generator.normal(scale=1.5, size=64) + generator.normal(size=features.shape) + 2)
        rates.append(rule.decide(probabilities, features).out_of_distribution.mean())
    return float(np.mean(rates))


def _answered_wrongly() -> float:
    generator = np.random.default_rng(0)
    rates = []
    for _ in range(60):
        rule, probabilities, features, targets = _fitted(generator)
        answered = ~rule.decide(probabilities, features).abstain
        rates.append(np.mean(answered & (predictions(probabilities) != targets)))
    return float(np.mean(rates))


PROMISES = (
    Promise(
        "a prediction set contains the right label: 90 %",
        f"mean of {DRAWS} sets of 200 validation images",
        0.895,
        0.91,
        lambda: _coverage(0.9, 200, 0.0),
    ),
    Promise(
        "... however good or bad the model is",
        "the same, logits off by twice their own spread",
        0.895,
        0.91,
        lambda: _coverage(0.9, 200, 4.0),
    ),
    Promise("... with 20 validation images", f"mean of {DRAWS} sets", 0.89, 0.95, lambda: _coverage(0.9, 20, 0.0)),
    Promise(
        "an image gets one answer, and it is wrong: 10 % at most",
        "60 models that are right half of the time",
        0.0,
        0.1,
        _answered_wrongly,
    ),
    Promise(
        "images like the training images are called out-of-distribution: 1 %",
        "mean of 60 detectors, 300 validation images",
        0.005,
        0.015,
        lambda: _flagged(False),
    ),
    Promise(
        "images of another kind are called out-of-distribution: 95 %",
        "60 detectors, features around a mean of their own",
        0.95,
        1.0,
        lambda: _flagged(True),
    ),
)
