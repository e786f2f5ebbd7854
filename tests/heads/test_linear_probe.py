"""Linear probes against scikit-learn, and what cross-validation may and may not see."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from graft.core import row_blocks
from graft.core.row_blocks import ArrayRows
from graft.heads import linear_probe
from graft.heads.cross_validation import cross_validate, make_folds
from graft.heads.lbfgs import make_frame
from graft.heads.linear_probe import (
    PENALTIES,
    Linear,
    fit_path,
    fits_in_memory,
    logits_of,
    standardisation,
)
from graft.heads.protocols import TrainingSet
from tests.support.growth import growth
from tests.support.tasks import of_classes


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
    *_, probe = fit_path(TrainingSet(features, targets, of_classes(classes)), [1e-1, penalty])
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
    *_, drowned = fit_path(TrainingSet(both, targets, of_classes(2)), [1e-2])
    *_, heard = fit_path(TrainingSet(both, targets, of_classes(2), widths=(8, 400)), [1e-2])
    assert np.abs(heard.weight[:, :8]).sum() > 2 * np.abs(drowned.weight[:, :8]).sum()


def test_class_weights_raise_rare_classes() -> None:
    features, targets = _blobs(200, 5, 2)
    kept = np.flatnonzero((targets == 0) | (np.arange(200) < 30))
    features, targets = features[kept], targets[kept]
    *_, plain = fit_path(TrainingSet(features, targets, of_classes(2)), [1e-1])
    weight = of_classes(2).label_weights(targets)[targets]
    assert weight.mean() == pytest.approx(1.0)
    *_, balanced = fit_path(TrainingSet(features, targets, of_classes(2), weight), [1e-1])
    rare = targets == 1
    recall = [float((probe.logits(features)[rare].argmax(1) == 1).mean()) for probe in (plain, balanced)]
    assert recall[1] > recall[0]


def test_no_image_is_predicted_by_a_probe_that_saw_it() -> None:
    # Random labels: only memorisation can predict them, so out-of-fold accuracy must be chance.
    generator = np.random.default_rng(0)
    features = generator.normal(0, 1, (200, 400)).astype(np.float32)
    targets = generator.integers(0, 2, 200)
    found = cross_validate(features, targets, of_classes(2), make_folds(targets, [str(i) for i in range(200)], 5, 0))
    assert 0.35 < found.correct.mean() < 0.65


def test_a_feature_that_is_almost_never_active_does_not_dominate() -> None:
    features, targets = _blobs(80, 20, 2)
    features[:, 0] = 0.0  # dead in training
    *_, probe = fit_path(TrainingSet(features, targets, of_classes(2)), [1e-4])
    awake = features.copy()
    awake[:, 0] = 0.01
    assert np.abs(probe.logits(awake) - probe.logits(features)).max() < 0.1
    _, spread = standardisation(features)
    assert spread[0] == pytest.approx(0.1 * np.sqrt(np.mean(features.std(0) ** 2)), rel=1e-3)


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has more rows than columns is read in blocks of few rows."""
    monkeypatch.setattr(linear_probe, "IN_MEMORY_CELLS", 0)
    monkeypatch.setattr(row_blocks, "BLOCK_BYTES", 2000)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("widths", [None, (12, 28)])
def test_read_in_blocks_the_optimum_is_that_of_all_at_once(
    monkeypatch: pytest.MonkeyPatch, weighted: bool, widths: tuple[int, ...] | None
) -> None:
    features, targets = _blobs(400, 40, 3)
    features[:, 5] = 0.0  # dead: a direction without spread
    weight = of_classes(4).label_weights(targets)[targets] * np.where(targets == 0, 2.0, 0.5) if weighted else None
    monkeypatch.setattr("graft.heads.lbfgs._LBFGS", {"maxiter": 500, "gtol": 1e-9, "ftol": 1e-13, "maxcor": 20})
    path = [1e-1, 1e-2, 1e-3]
    held = list(fit_path(TrainingSet(features, targets, of_classes(4), weight, widths), path))
    assert fits_in_memory(features.shape)
    monkeypatch.setattr(linear_probe, "IN_MEMORY_CELLS", 0)
    monkeypatch.setattr(row_blocks, "BLOCK_BYTES", 2000)
    assert not fits_in_memory(features.shape)
    streamed = list(
        fit_path(TrainingSet(ArrayRows((features[:150], features[150:])), targets, of_classes(4), weight, widths), path)
    )
    for one, other in zip(held, streamed, strict=True):
        expected = one.logits(features)
        np.testing.assert_allclose(other.logits(features), expected, atol=2e-3 * np.abs(expected).max())
        np.testing.assert_allclose(logits_of(other, ArrayRows((features,)), 4), other.logits(features))


def test_start_and_directions_do_not_change_the_optimum(streamed: None) -> None:
    features, targets = _blobs(300, 20, 3)
    other, _ = _blobs(300, 20, 3, seed=5)
    *_, plain = fit_path(TrainingSet(features, targets, of_classes(3)), [1e-2])
    directions = make_frame(ArrayRows((other,))).directions
    (start,) = fit_path(TrainingSet(other, targets, of_classes(3)), [1e-1])
    (begun_elsewhere,) = fit_path(
        TrainingSet(features, targets, of_classes(3)), [1e-2], warm=start, directions=directions
    )
    expected = plain.logits(features)
    np.testing.assert_allclose(begun_elsewhere.logits(features), expected, atol=0.02 * np.abs(expected).max())


def test_a_pull_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = _blobs(400, 20, 3)
    generator = np.random.default_rng(1)
    start = Linear.of_raw(generator.normal(0, 1, (3, 20)), generator.normal(0, 1, 3))
    path = [1e2, 1e-1, 1e-2]
    monkeypatch.setattr("graft.heads.lbfgs._LBFGS", {"maxiter": 500, "gtol": 1e-9, "ftol": 1e-13, "maxcor": 20})
    held = list(fit_path(TrainingSet(features, targets, of_classes(3)), path, start=start))
    np.testing.assert_allclose(held[0].weight, start.weight, atol=0.02)
    monkeypatch.setattr(linear_probe, "IN_MEMORY_CELLS", 0)
    monkeypatch.setattr(row_blocks, "BLOCK_BYTES", 2000)
    streamed = list(fit_path(TrainingSet(features, targets, of_classes(3)), path, start=start))
    (warm,) = fit_path(TrainingSet(features, targets, of_classes(3)), path[2:], start=start, warm=streamed[1])
    for one, other in zip([*held, held[-1]], [*streamed, warm], strict=True):
        expected = one.logits(features)
        np.testing.assert_allclose(other.logits(features), expected, atol=2e-3 * np.abs(expected).max())
        np.testing.assert_allclose(other.mean, one.mean, atol=1e-6)
        np.testing.assert_allclose(other.scale, one.scale, rtol=1e-5)


def test_folds_of_many_images_share_their_rows_and_predict_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = _blobs(300, 30, 3)
    folds = make_folds(targets, [str(i // 2) for i in range(300)], 5, 0)
    weight = np.array([1.0, 0.5, 1.5])
    held = cross_validate(features, targets, of_classes(3), folds, PENALTIES[:3], weight)
    monkeypatch.setattr(linear_probe, "IN_MEMORY_CELLS", 0)
    monkeypatch.setattr(row_blocks, "BLOCK_BYTES", 2000)
    streamed = cross_validate(features, targets, of_classes(3), folds, PENALTIES[:3], weight)
    assert held.penalties == streamed.penalties
    np.testing.assert_allclose(streamed.path_losses, held.path_losses, rtol=2e-3)
    np.testing.assert_allclose(streamed.probabilities, held.probabilities, atol=0.02)


def test_no_image_of_many_is_predicted_by_a_probe_that_saw_it(streamed: None) -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(0, 1, (300, 150)).astype(np.float32)
    targets = generator.integers(0, 2, 300)
    found = cross_validate(features, targets, of_classes(2), make_folds(targets, [str(i) for i in range(300)], 5, 0))
    assert 0.35 < found.correct.mean() < 0.65


def test_standardisation_in_blocks(streamed: None) -> None:
    features, _ = _blobs(200, 30, 3)
    for one, other in zip(
        standardisation(features, (10, 20)), standardisation(ArrayRows((features,)), (10, 20)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_memory_grows_by_little_more_than_targets_and_weights(streamed: None) -> None:
    def over(n: int):
        features, targets = _blobs(n, 128, 3)
        return lambda: list(fit_path(TrainingSet(features, targets, of_classes(3)), [1e-1]))

    # A row of features takes 512 bytes, twice that in double precision.
    assert growth(over, 1000, 4000) < 100
