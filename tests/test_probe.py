"""Linear probes against scikit-learn, and what cross-validation may and may not see."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from graft.probe import PENALTIES, balanced_weights, cross_validate, fit_path, make_folds, standardisation


def _blobs(n: int, d: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = np.arange(n) % classes
    centres = generator.normal(0, 1, (classes, d))
    features = 5 + 3 * (centres[targets] + generator.normal(0, 2, (n, d)))
    return features.astype(np.float32), targets.astype(np.int64)


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(30, 90),
    d=st.sampled_from([3, 40, 150]),
    classes=st.sampled_from([2, 3, 5]),
    penalty=st.sampled_from([1e-1, 1e-2, 1e-3]),
)
def test_the_optimum_is_scikit_learns(n: int, d: int, classes: int, penalty: float) -> None:
    features, targets = _blobs(n, d, classes, seed=n)
    *_, probe = fit_path(features, targets, classes, [1e-1, penalty])
    scaled = (features - features.mean(0)) / (features.std(0) + 1e-6) / np.sqrt(d)
    # With two classes scikit-learn has one weight vector where a softmax has two opposite ones of half its length.
    halved = 2 if classes == 2 else 1
    peer = LogisticRegression(C=halved / (penalty * n), tol=1e-8, max_iter=5000).fit(scaled.astype(np.float64), targets)
    ours = np.exp(probe.logits(features))
    np.testing.assert_allclose(ours / ours.sum(1, keepdims=True), peer.predict_proba(scaled), atol=0.02)


def test_wide_and_narrow_taps_count_alike() -> None:
    narrow, targets = _blobs(80, 8, 2)
    noise = np.random.default_rng(1).normal(0, 1, (80, 400)).astype(np.float32)
    both = np.concatenate([narrow, noise], axis=1)
    *_, drowned = fit_path(both, targets, 2, [1e-2])
    *_, heard = fit_path(both, targets, 2, [1e-2], widths=(8, 400))
    assert np.abs(heard.weight[:, :8]).sum() > 2 * np.abs(drowned.weight[:, :8]).sum()


def test_class_weights_make_rare_classes_heard() -> None:
    features, targets = _blobs(200, 5, 2)
    kept = np.flatnonzero((targets == 0) | (np.arange(200) < 30))
    features, targets = features[kept], targets[kept]
    *_, plain = fit_path(features, targets, 2, [1e-1])
    weight = balanced_weights(targets, 2)[targets]
    assert weight.mean() == pytest.approx(1.0)
    *_, balanced = fit_path(features, targets, 2, [1e-1], weight)
    rare = targets == 1
    recall = [float((probe.logits(features)[rare].argmax(1) == 1).mean()) for probe in (plain, balanced)]
    assert recall[1] > recall[0]


def test_no_image_is_predicted_by_a_probe_that_saw_it() -> None:
    # Labels that only memory can know: out-of-fold accuracy must be chance.
    generator = np.random.default_rng(0)
    features = generator.normal(0, 1, (200, 400)).astype(np.float32)
    targets = generator.integers(0, 2, 200)
    found = cross_validate(features, targets, 2, make_folds(targets, [str(i) for i in range(200)], 5, 0))
    assert 0.35 < found.correct.mean() < 0.65


def test_the_path_ends_where_weaker_penalties_hurt() -> None:
    features, targets = _blobs(60, 200, 2)
    found = cross_validate(features, targets, 2, make_folds(targets, [str(i) for i in range(60)], 5, 0))
    assert len(found.penalties) <= len(PENALTIES)
    assert found.penalty == found.penalties[int(found.losses().mean(1).argmin())]
    np.testing.assert_allclose(found.probabilities.sum(2), 1.0)


@given(groups=st.lists(st.integers(0, 20), min_size=20, max_size=60), seed=st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_folds_keep_groups_together(groups: list[int], seed: int) -> None:
    # group g is of class g % 2, and both classes have two groups at least
    groups = [*groups, 0, 1, 2, 3]
    targets = np.array([group % 2 for group in groups])
    folds = make_folds(targets, [str(group) for group in groups], 5, seed)
    held = np.concatenate([held_out for _, held_out in folds])
    assert sorted(held) == list(range(len(groups)))
    for train, held_out in folds:
        assert not {groups[i] for i in train} & {groups[i] for i in held_out}


def test_a_feature_that_hardly_fires_does_not_drown_the_others() -> None:
    features, targets = _blobs(80, 20, 2)
    features[:, 0] = 0.0  # dead in training
    *_, probe = fit_path(features, targets, 2, [1e-4])
    awake = features.copy()
    awake[:, 0] = 0.01
    assert np.abs(probe.logits(awake) - probe.logits(features)).max() < 0.1
    _, spread = standardisation(features)
    assert spread[0] == pytest.approx(0.1 * np.sqrt(np.mean(features.std(0) ** 2)), rel=1e-3)
