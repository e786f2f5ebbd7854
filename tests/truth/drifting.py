"""Drift is claimed in about one batch of a hundred without any, and seen in labels, confidence and features."""

import numpy as np

from graft.stats.drift import PredictionSample, detect_drift
from tests.truth.promise import Promise, at_least, at_most

DRAWS = 300
_SHARES = np.array([0.5, 0.3, 0.2])


def _alarms(
    images: int, shares: np.ndarray = _SHARES, confidence: float = 8.0, ood: float = 0.0, of: str = ""
) -> float:
    generator = np.random.default_rng(0)

    def sample(size: int, shares: np.ndarray, confidence: float, ood: float) -> PredictionSample:
        scores = np.exp(generator.normal(ood - 0.5, 0.2, size))
        return PredictionSample(generator.choice(3, size, p=shares), generator.beta(confidence, 2, size), scores)

    raised = []
    for _ in range(DRAWS):
        found = detect_drift(sample(400, _SHARES, 8.0, 0.0), sample(images, shares, confidence, ood), 3)
        shift = {"labels": found.labels, "confidence": found.confidence, "features": found.features}.get(of)
        raised.append(shift.drifted if shift else found.drifted)
    return float(np.mean(raised))


PROMISES = (
    Promise(
        "a batch like the test images raises an alarm: 1 %",
        f"{DRAWS} batches of 200 against 400",
        *at_most(0.01, DRAWS),
        lambda: _alarms(200),
    ),
    Promise(
        "other shares of the labels are seen: 95 %",
        f"{DRAWS} batches of 200, 50 / 30 / 20 % become 30 / 30 / 40 %",
        *at_least(0.95, DRAWS),
        lambda: _alarms(200, shares=np.array([0.3, 0.3, 0.4]), of="labels"),
    ),
    Promise(
        "less confidence is seen: 95 %",
        f"{DRAWS} batches of 200, mean 0.80 becomes 0.71",
        *at_least(0.95, DRAWS),
        lambda: _alarms(200, confidence=5.0, of="confidence"),
    ),
    Promise(
        "less familiar features are seen: 95 %",
        f"{DRAWS} batches of 200, distances 10 % longer",
        *at_least(0.95, DRAWS),
        lambda: _alarms(200, ood=0.1, of="features"),
    ),
)
