"""Every kind of head: deterministic fits along a path of penalties, and what is special about each kind."""

import numpy as np
import pytest

from graft.heads import nonlinear
from graft.heads.cross_validation import cross_validate, make_folds
from graft.heads.families import FAMILIES, family
from graft.heads.linear_probe import Linear
from graft.heads.protocols import Kind, TrainingSet
from graft.stats.subsampling import evenly_spaced
from tests.support.features import blobs
from tests.support.tasks import of_classes

KINDS = sorted(FAMILIES)


def quarters(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two classes in opposite quarters of a plane: not linearly separable."""
    x = np.random.default_rng(seed).normal(0, 1, (n, 2))
    return x.astype(np.float32), (x[:, 0] * x[:, 1] > 0).astype(np.int64)


def folds(targets: np.ndarray, many: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    return make_folds(targets, [str(i) for i in range(len(targets))], many, 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "d"), [(40, 120), (200, 6)], ids=["more features than images", "fewer"])
def test_classes_are_learnt_and_a_fit_is_the_same_every_time(kind: Kind, n: int, d: int) -> None:
    features, targets = blobs(n, d, 3)
    penalty = FAMILIES[kind].penalties[-1]
    first, again = (FAMILIES[kind].fit_at(penalty, features, targets, of_classes(3), [d]) for _ in range(2))
    assert (first.logits(features).argmax(1) == targets).mean() > 0.75
    assert all(np.array_equal(tensor, again.tensors()[name]) for name, tensor in first.tensors().items())


@pytest.mark.parametrize("kind", KINDS)
def test_stronger_penalties_give_less_confidence(kind: Kind) -> None:
    features, targets = blobs(60, 30, 3)
    path = FAMILIES[kind].fit(TrainingSet(features, targets, of_classes(3)), FAMILIES[kind].penalties)
    spreads = [float(np.std(fitted.logits(features))) for fitted in path]
    assert spreads == sorted(spreads)


@pytest.mark.parametrize("kind", KINDS)
def test_neither_scale_nor_offset_of_features_matters(kind: Kind) -> None:
    features, targets = blobs(60, 10, 2)
    plain, stretched = (
        FAMILIES[kind].fit_at(1e-3, x, targets, of_classes(2), [10]).logits(x)
        for x in (features.astype(np.float64), 40 * features.astype(np.float64) - 300)
    )
    np.testing.assert_allclose(stretched, plain, atol=0.02 * np.abs(plain).max())


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_without_images_and_class_weights_are_no_obstacle(kind: Kind) -> None:
    features, targets = blobs(90, 6, 2)
    kept = np.flatnonzero((targets == 0) | (np.arange(90) < 16))
    features, targets = features[kept], targets[kept]
    plain, weighted = (
        FAMILIES[kind]
        .fit_at(FAMILIES[kind].penalties[-2], features, targets, of_classes(4), [6], weighted=w)
        .logits(features)
        for w in (False, True)
    )
    assert np.isfinite(plain).all()
    assert (plain.argmax(1) == targets).mean() > 0.8
    rare = targets == 1
    assert weighted[rare].argmax(1).mean() >= plain[rare].argmax(1).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_no_image_is_predicted_by_a_head_that_saw_it(kind: Kind) -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(0, 1, (150, 200)).astype(np.float32)
    targets = generator.integers(0, 2, 150)  # random labels: only memorisation can predict them
    found = cross_validate(
        features, targets, of_classes(2), folds(targets), FAMILIES[kind].penalties, fit=FAMILIES[kind].fit
    )
    assert 0.35 < found.correct.mean() < 0.65


@pytest.mark.parametrize("kind", ["mlp", "cosine"])
def test_of_very_many_images_a_subset_is_used(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = blobs(120, 5, 3)
    monkeypatch.setattr(nonlinear, "MOST_IMAGES", 40)
    found = FAMILIES[kind].fit_at(1e-3, features, targets, of_classes(3), [5], weighted=True)
    rows = evenly_spaced(120, 40)
    assert len(rows) == 40
    classes = [features[rows][targets[rows] == label].mean(0) for label in range(3)]
    centre = features[rows].mean(0) if kind == "mlp" else np.mean(classes, axis=0)
    np.testing.assert_allclose(found.tensors()["mean"], centre, rtol=1e-5)
    assert (found.logits(features).argmax(1) == targets).mean() > 0.6


@pytest.mark.parametrize("kind", ["mlp", "cosine"])
def test_wide_and_narrow_taps_count_alike(kind: Kind) -> None:
    narrow, targets = blobs(100, 4, 2, noise=0.5)
    noise = np.random.default_rng(1).normal(0, 1, (100, 400)).astype(np.float32)
    both = np.concatenate([narrow, noise], axis=1)
    losses = [
        cross_validate(
            both,
            targets,
            of_classes(2),
            folds(targets),
            FAMILIES[kind].penalties,
            fit=FAMILIES[kind].fit,
            widths=widths,
        ).loss.mean()
        for widths in (None, (4, 400))
    ]
    assert losses[1] < losses[0]


def test_one_hidden_layer_learns_what_is_not_linearly_separable() -> None:
    features, targets = quarters(300)
    of = {
        kind: cross_validate(
            features, targets, of_classes(2), folds(targets), FAMILIES[kind].penalties, fit=FAMILIES[kind].fit
        )
        for kind in ("linear", "mlp")
    }
    assert of["linear"].correct.mean() < 0.65
    assert of["mlp"].correct.mean() > 0.9


def test_a_collapsed_fit_does_not_stop_weaker_penalties() -> None:
    features, targets = quarters(300)
    *_, after = FAMILIES["mlp"].fit(TrainingSet(features, targets, of_classes(2)), [10.0, 1e-4])
    *_, alone = FAMILIES["mlp"].fit(TrainingSet(features, targets, of_classes(2)), [1e-4])
    np.testing.assert_array_equal(after.logits(features), alone.logits(features))


def test_the_cosine_head_ignores_the_length_of_features() -> None:
    features, targets = blobs(90, 8, 3)
    found = FAMILIES["cosine"].fit_at(1e-3, features, targets, of_classes(3), [8])
    mean = found.tensors()["mean"]
    louder = mean + 7 * (features - mean)
    np.testing.assert_allclose(found.logits(louder), found.logits(features), rtol=1e-6, atol=1e-6)
    assert np.abs(found.logits(features)).max() <= found.tensors()["linear.sharpness"] + 1e-9


def test_a_head_is_pulled_to_its_start_unless_the_penalty_is_weak() -> None:
    features, targets = blobs(200, 12, 3)
    truth = FAMILIES["linear"].fit_at(1e-3, features, targets, of_classes(3), [12])
    assert isinstance(truth, Linear)
    few = np.arange(12)
    start = Linear.of_raw(truth.weight, truth.bias)
    near = family("linear", start).fit_at(1e3, features[few], targets[few], of_classes(3), [12])
    assert isinstance(near, Linear)
    np.testing.assert_allclose(near.weight, start.weight, atol=1e-3)
    plain = FAMILIES["linear"].fit_at(1e-3, features[few], targets[few], of_classes(3), [12])
    assert (near.logits(features).argmax(1) == targets).mean() > (plain.logits(features).argmax(1) == targets).mean()
    wrong = Linear.of_raw(-truth.weight, -truth.bias)
    assert (wrong.logits(features).argmax(1) == targets).mean() < 0.3
    turned = family("linear", wrong).fit_at(1e-6, features, targets, of_classes(3), [12])
    assert (turned.logits(features).argmax(1) == targets).mean() > 0.8
