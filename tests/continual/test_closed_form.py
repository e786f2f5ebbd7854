"""Heads from statistics that arrived in parts are those that scikit-learn fits to all images at once."""

from functools import reduce

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

from graft.continual.class_statistics import ClassStatistics
from graft.continual.closed_form import RIDGE_LOGITS, ClosedForm, solve
from tests.support.features import blobs

FEATURES, TARGETS = blobs(400, 8, 5, noise=1.5)
NAMES = np.array([f"c{target}" for target in TARGETS])


def learnt(order: np.ndarray, features: np.ndarray) -> ClassStatistics:
    """Class after class, in this order."""
    parts = [ClassStatistics.of(features[label == TARGETS], NAMES[label == TARGETS]) for label in order]
    return reduce(ClassStatistics.merged, parts)


def within_unit_spread(features: np.ndarray) -> np.ndarray:
    """Scikit-learn shrinks to a multiple of the identity: the same as the diagonal where all variances are one."""
    centred = features - np.stack([features[label == TARGETS].mean(axis=0) for label in range(5)])[TARGETS]
    return features / centred.std(axis=0)


@pytest.mark.parametrize("shrinkage", [0.5, 0.1, 0.001])
def test_lda_is_that_of_scikit_learn_on_the_union(shrinkage: float) -> None:
    features = within_unit_spread(FEATURES.astype(np.float64))
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(features, NAMES)
    ours = solve("lda", learnt(np.array([3, 0, 4, 1, 2]), features)).at(shrinkage)
    wanted, found = theirs.decision_function(features), ours.logits(features)
    # Both are linear in the features: they differ at most by a constant per image.
    np.testing.assert_allclose(
        found - found.mean(axis=1, keepdims=True), wanted - wanted.mean(axis=1, keepdims=True), atol=1e-6
    )


@pytest.mark.parametrize("penalty", [3.0, 0.03])
def test_ridge_is_that_of_scikit_learn_on_the_union(penalty: float) -> None:
    x = FEATURES.astype(np.float64)
    standardised = (x - x.mean(axis=0)) / x.std(axis=0)
    theirs = Ridge(alpha=penalty * len(x)).fit(standardised, np.eye(5)[TARGETS])
    ours = solve("ridge", learnt(np.arange(5)[::-1], x)).at(penalty)
    np.testing.assert_allclose(ours.logits(x), RIDGE_LOGITS * theirs.predict(standardised), atol=1e-6)


@pytest.mark.parametrize("method", ["lda", "ridge"])
def test_the_order_of_the_classes_changes_nothing(method: ClosedForm) -> None:
    heads = [solve(method, learnt(np.random.default_rng(seed).permutation(5), FEATURES)).at(0.1) for seed in range(3)]
    for head in heads[1:]:
        np.testing.assert_allclose(head.weight, heads[0].weight, atol=1e-6)
        np.testing.assert_allclose(head.bias, heads[0].bias, atol=1e-6)


def test_features_that_never_vary_do_no_harm() -> None:
    dead = np.concatenate([FEATURES, np.zeros((len(FEATURES), 2), np.float32)], axis=1)
    head = solve("lda", ClassStatistics.of(dead, NAMES)).at(0.01)
    alive = solve("lda", ClassStatistics.of(FEATURES, NAMES)).at(0.01)
    assert np.isfinite(head.weight).all()
    assert (head.logits(dead).argmax(axis=1) == alive.logits(FEATURES).argmax(axis=1)).mean() > 0.98
