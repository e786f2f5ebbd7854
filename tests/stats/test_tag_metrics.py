"""Metrics of tags are scikit-learn's, also in resamples."""

import numpy as np
import pytest
from sklearn import metrics as reference

from graft.stats.tag_metrics import tag_metrics

RNG = np.random.default_rng(0)
TRUTH = (RNG.random((200, 4)) < [0.5, 0.2, 0.05, 0.4]).astype(np.float32)
SCORES = np.clip(0.35 * TRUTH + RNG.random((200, 4)) * 0.65, 0.001, 0.999).round(3)
LIMITS = np.array([0.5, 0.4, 0.3, 0.6])


@pytest.mark.parametrize("resampled", [False, True])
def test_as_scikit_learn(resampled: bool) -> None:
    weights = RNG.multinomial(200, [1 / 200] * 200)[None].astype(float) if resampled else None
    rows = np.arange(200) if weights is None else np.repeat(np.arange(200), weights[0].astype(int))
    truth, scores = TRUTH[rows], SCORES[rows]
    named = scores >= LIMITS
    expected = {
        "accuracy": reference.accuracy_score(truth, named),
        "mean_average_precision": reference.average_precision_score(truth, scores, average="macro"),
        "macro_f1": reference.f1_score(truth, named, average="macro"),
        "micro_f1": reference.f1_score(truth, named, average="micro"),
        "coverage_error": reference.coverage_error(truth, scores),
        "log_loss": sum(reference.log_loss(truth[:, k], scores[:, k]) for k in range(4)),
    }
    found = {name: metric(TRUTH, SCORES, weights)[0] for name, metric in tag_metrics(LIMITS).items()}
    assert found == pytest.approx(expected, abs=1e-6)
