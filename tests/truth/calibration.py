"""After temperature scaling, probabilities are what they say."""

import numpy as np

from graft.stats.metrics import predictions, softmax
from graft.stats.temperature_scaling import fit_temperature
from tests.truth.promise import Promise, at_least
from tests.truth.simulated import labelled

DRAWS = 100


def _recovered(temperature: float) -> float:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(DRAWS):
        logits, targets = labelled(1000, 4, generator)
        found.append(fit_temperature(logits * temperature, targets))
    return float(np.mean(np.abs(np.array(found) / temperature - 1) < 0.15))


def _confidence_is_accuracy() -> float:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(DRAWS):
        logits, targets = labelled(2000, 4, generator)
        fitted = fit_temperature(3 * logits[:1000], targets[:1000])
        probabilities, truth = softmax(3 * logits[1000:], fitted), targets[1000:]
        found.append(probabilities.max(axis=1).mean() - np.mean(predictions(probabilities) == truth))
    return float(np.mean(np.abs(found) < 0.05))


PROMISES = (
    Promise(
        "overconfident logits get the temperature that undoes it, within 15 %",
        f"{DRAWS} sets of 1,000 labels drawn from known probabilities, logits times 3",
        *at_least(0.95, DRAWS),
        lambda: _recovered(3.0),
    ),
    Promise(
        "... and underconfident ones", "the same, logits times 0.5", *at_least(0.95, DRAWS), lambda: _recovered(0.5)
    ),
    Promise(
        "the mean confidence is the accuracy of other images, within 5 points",
        f"{DRAWS} sets of 1,000 and 1,000",
        *at_least(0.95, DRAWS),
        _confidence_is_accuracy,
    ),
)
