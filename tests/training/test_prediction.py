"""Logits and features of a stage's inputs, in batches."""

import numpy as np
import pytest
import torch

from graft.training.prediction import predict, read_features
from tests.support.tiny_training import labelled, untrained


def test_batches_are_put_together_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, images = untrained(), labelled(10, 0)
    whole = predict(classifier, images)
    assert (whole.shape, whole.dtype) == ((10, 2), np.float32)
    monkeypatch.setattr("graft.training.prediction.BATCH", 4)
    np.testing.assert_allclose(predict(classifier.train(), images), whole, atol=1e-5)
    assert not classifier.training


def test_the_head_makes_logits_of_features() -> None:
    classifier, images = untrained(), labelled(6, 0)
    features = read_features(classifier, images)
    with torch.no_grad():
        logits = classifier.head(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(logits, predict(classifier, images), atol=1e-5)
