"""Temperature scaling: one number that calibrates probabilities without changing any answer."""

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.optimize import minimize_scalar

from graft.stats.metrics import Floats, Targets, log_loss, softmax

LOWEST, HIGHEST = 0.05, 20.0
Temperature = Annotated[float, Field(gt=0.0, le=1000.0, allow_inf_nan=False)]
"""A divisor of logits: a negative one would turn every answer round."""
HALVINGS = 40


def fit_temperature(logits: Floats, targets: Targets) -> float:
    """Return the temperature to divide the logits (n, C) of validation images by; 1.0 if none improves them.

    The log loss is minimised with Platt's softened targets: with few images, all of them right, the plain optimum would
    be certainty. The result never has a higher log loss on these images than the unscaled logits. If the softened
    optimum would, the temperature nearest to it that does not is returned.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017; Platt, Probabilistic Outputs for SVMs, 1999.
    """
    size, classes = logits.shape
    if size == 0:
        return 1.0
    soft = np.full((size, classes), 1.0 / (size + classes))
    soft[np.arange(size), targets] += size / (size + classes)
    scaled = np.asarray(logits, dtype=np.float64)
    scaled = scaled - scaled.max(axis=1, keepdims=True)

    def loss(log_temperature: float) -> float:
        divided = scaled / np.exp(log_temperature)
        return float((np.log(np.exp(divided).sum(axis=1)) - (soft * divided).sum(axis=1)).mean())

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded")
    best, unscaled = float(found.x), _plain_loss(logits, targets, 1.0)
    if _plain_loss(logits, targets, float(np.exp(best))) <= unscaled:
        return float(np.exp(best))
    harmless = 0.0  # the log loss is convex in 1 / temperature: it rises above that of 1.0 beyond a single point
    for _ in range(HALVINGS):
        middle = (harmless + best) / 2
        if _plain_loss(logits, targets, float(np.exp(middle))) <= unscaled:
            harmless = middle
        else:
            best = middle
    return float(np.exp(harmless))


def _plain_loss(logits: Floats, targets: Targets, temperature: float) -> float:
    return float(log_loss(targets, softmax(logits, temperature))[0])
