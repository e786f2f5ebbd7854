"""Thresholds from before a refit hold after it, and the forecast of the learning curve holds."""

from functools import cache

import numpy as np

from graft.evaluation.learning_curve import SizeResult, gain_of_doubling
from graft.heads.linear_probe import Linear, fit_path
from graft.heads.protocols import TrainingSet
from graft.stats.abstention import calibrate_abstention
from graft.stats.metrics import softmax
from graft.stats.ood import fit_ood
from graft.stats.temperature_scaling import fit_temperature
from graft.tasks.single_label import SingleLabel
from tests.truth.promise import Promise, around
from tests.truth.simulated import Floats, Ints

DRAWS, CURVES = 200, 150
CLASSES, FEATURES = 4, 24
TRAIN, VAL, NEW = 160, 99, 400
SIZES = (100, 200, 400, 700, 1000)


def _images(generator: np.random.Generator, count: int, centres: Floats) -> tuple[Floats, Ints]:
    targets = np.arange(count) % CLASSES
    return np.abs(centres[targets] + generator.normal(size=(count, FEATURES)) + 3), targets


def _head(features: Floats, targets: Ints) -> Linear:
    task = SingleLabel(labels=tuple("abcd"))
    return next(iter(fit_path(TrainingSet(features, targets, task), (1e-4,))))


@cache
def _after_refit() -> tuple[float, float]:
    """Return the mean coverage of sets and the mean share of false alarms of models that were refit."""
    generator = np.random.default_rng(0)
    covered, alarms = [], []
    for _ in range(DRAWS):
        centres = generator.normal(scale=0.6, size=(CLASSES, FEATURES))
        (x, y), (x_val, y_val), (x_new, y_new) = (_images(generator, n, centres) for n in (TRAIN, VAL, NEW))
        logits = _head(x, y).logits(x_val)
        temperature = fit_temperature(logits, y_val)
        detector = fit_ood(x, y, CLASSES)
        rule = calibrate_abstention(detector, detector.distances(x_val), softmax(logits, temperature), y_val)
        assert rule is not None
        refit = _head(np.concatenate([x, x_val]), np.concatenate([y, y_val]))
        served = softmax(refit.logits(x_new), temperature)
        decision = rule.decide(served, x_new)
        covered.append(decision.sets[np.arange(NEW), y_new].mean())
        alarms.append(decision.out_of_distribution.mean())
    return float(np.mean(covered)), float(np.mean(alarms))


def _forecast_holds(floor: float, slope: float, exponent: float) -> float:
    """Return how often the interval of the gain by twice as many images holds it; the error is a + b * n^-c."""
    generator = np.random.default_rng(0)
    images = 400
    true = slope * (float(SIZES[-1]) ** -exponent - float(2 * SIZES[-1]) ** -exponent)
    held = []
    for seed in range(CURVES):
        difficulty = generator.random(images)  # a test image that is hard for one head is hard for all
        curve = []
        for size in SIZES:
            scatter = np.exp(generator.normal(scale=0.05, size=(1 if size == SIZES[-1] else 3, 1)))
            error = (floor + slope * float(size) ** -exponent) * scatter
            luck = generator.normal(scale=0.02, size=(len(scatter), images))
            curve.append(SizeResult(size, difficulty > error + luck))
        found = gain_of_doubling(curve, np.arange(images), seed)
        assert found is not None
        held.append(found.low <= true <= found.high)
    return float(np.mean(held))


PROMISES = (
    Promise(
        "a prediction set of a refit model contains the right label: 90 %",
        f"mean of {DRAWS} models, refit with the {VAL} images that their sets were fitted on",
        0.89,
        0.94,
        lambda: _after_refit()[0],
    ),
    Promise(
        "... and images like the training images are called out-of-distribution: 1 %",
        f"mean of the same {DRAWS} models",
        0.0,
        0.015,
        lambda: _after_refit()[1],
    ),
    Promise(
        "the gain by twice as many images is in its interval: 95 %",
        f"{CURVES} learning curves of five sizes, 400 test images, error 0.05 + 0.9 / √n",
        *around(0.95, CURVES, upward=0.05),
        lambda: _forecast_holds(0.05, 0.9, 0.5),
    ),
    Promise(
        "... where nothing stops the error from falling",
        "the same, error 0.3 / n^0.2",
        *around(0.95, CURVES, upward=0.05),
        lambda: _forecast_holds(0.0, 0.3, 0.2),
    ),
)
