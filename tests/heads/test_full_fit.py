"""From a sample to all training images: the head is fitted to all, and the predictions are out-of-fold."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from graft.backbones.feature_store import FeatureStore
from graft.core import row_blocks
from graft.heads import full_fit, linear_probe, nonlinear
from graft.heads.cross_validation import CrossValidated
from graft.heads.depth_selection import choose_head
from graft.heads.families import family
from graft.heads.full_fit import fit_to_all_images
from graft.heads.head_inputs import prepare_head_inputs
from graft.heads.linear_probe import Linear, fit_path
from graft.heads.protocols import Kind, TrainingSet
from graft.models.classifier import Head
from graft.params.train_head import TrainHeadParams
from graft.stats import subsampling
from tests.support.features import noisy_tap, write_store
from tests.support.growth import growth
from tests.support.tasks import of_classes

PARAMS = TrainHeadParams(folds=3, class_weight="none")


def alternating(n: int) -> np.ndarray:
    return (np.arange(n) // 2 % 2).astype(np.int64)


def store_of(folder: Path, n: int, width: int = 6) -> FeatureStore:
    targets = alternating(n)
    return write_store(
        folder, {"a": noisy_tap(targets, 0.2, 0, width), "b": noisy_tap(targets, 0.6, 1, width)}, targets
    )


@pytest.fixture
def few_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choices are made from 120 images, penalties are judged by 60, and all others are read in blocks."""
    monkeypatch.setattr(subsampling, "CHOICE_IMAGES", 120)
    monkeypatch.setattr(subsampling, "CHOICE_PER_CLASS", 1)
    monkeypatch.setattr(full_fit, "HELD_OUT_IMAGES", 60)
    monkeypatch.setattr(linear_probe, "IN_MEMORY_CELLS", 0)
    monkeypatch.setattr(row_blocks, "BLOCK_BYTES", 2**14)


def test_without_a_sample_the_folds_give_the_predictions(tmp_path: Path) -> None:
    inputs = prepare_head_inputs(store_of(tmp_path, 160), PARAMS)
    choice = choose_head(inputs, "auto", "linear")
    found = fit_to_all_images(inputs, choice)
    np.testing.assert_array_equal(inputs.rows, inputs.train)
    np.testing.assert_array_equal(found.probabilities, choice.cross_validated.probabilities)
    assert found.l2 == choice.cross_validated.penalty


def test_a_sample_is_used_for_the_choice_and_all_images_for_the_fit(tmp_path: Path, few_choose: None) -> None:
    store = store_of(tmp_path, 1600)
    inputs = prepare_head_inputs(store, PARAMS)
    assert len(inputs.train) == 1200
    assert 110 <= len(inputs.rows) <= 130
    choice = choose_head(inputs, "auto", "linear")
    assert choice.taps == ("b",)
    assert len(choice.cross_validated.targets) == len(inputs.rows)
    found = fit_to_all_images(inputs, choice)
    assert found.probabilities.shape == (1200, 2)
    assert found.l2 <= choice.cross_validated.penalty
    features, targets = store.tap("b")[inputs.train], store.targets()[inputs.train]
    *_, expected = fit_path(TrainingSet(features, targets, of_classes(2)), [0.1, found.l2])
    logits = expected.logits(features)
    np.testing.assert_allclose(found.fitted.logits(features), logits, atol=0.03 * np.abs(logits).max())
    accuracy = (found.probabilities.argmax(1) == targets).mean()
    assert accuracy == pytest.approx((logits.argmax(1) == targets).mean(), abs=0.03)


def test_images_outside_the_sample_do_not_predict_themselves(tmp_path: Path, few_choose: None) -> None:
    store = store_of(tmp_path / "one", 1600)
    inputs = prepare_head_inputs(store, PARAMS)
    beyond = np.setdiff1d(inputs.train, inputs.rows)
    wrong = alternating(1600)
    wrong[beyond] = 1 - wrong[beyond]
    spoilt = replace(inputs, store=write_store(tmp_path / "two", {"a": store.tap("a"), "b": store.tap("b")}, wrong))
    before, after = (fit_to_all_images(one, choose_head(one, "b", "linear")) for one in (inputs, spoilt))
    np.testing.assert_array_equal(after.probabilities, before.probabilities)
    assert np.abs(after.fitted.weight - before.fitted.weight).max() > 0.1


def test_more_images_bear_a_weaker_penalty(tmp_path: Path, few_choose: None) -> None:
    generator = np.random.default_rng(0)
    targets = alternating(4000)
    direction = generator.normal(0, 1, 60)
    # Each feature is a weak signal, all together a strong one: 3,000 images can weight them, 120 cannot.
    tap = generator.normal(0, 1, (4000, 60)) + 0.25 * np.outer(2 * targets - 1, direction)
    inputs = prepare_head_inputs(write_store(tmp_path, {"a": tap.astype(np.float32)}, targets), PARAMS)
    choice = choose_head(inputs, "auto", "linear")
    found = fit_to_all_images(inputs, choice)
    assert found.l2 < choice.cross_validated.penalty
    by_fit = softmax(found.fitted.logits(tap), axis=1)[np.arange(4000), targets]
    (as_chosen,) = fit_path(
        TrainingSet(tap[inputs.train], targets[inputs.train], of_classes(2)), [choice.cross_validated.penalty]
    )
    assert np.log(by_fit).mean() > np.log(softmax(as_chosen.logits(tap), axis=1)[np.arange(4000), targets]).mean()


@pytest.mark.parametrize("kind", ["mlp", "cosine"])
def test_heads_of_other_kinds_learn_from_all_too(
    tmp_path: Path, few_choose: None, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    store = store_of(tmp_path, 1600)
    inputs = prepare_head_inputs(store, PARAMS)
    choice = choose_head(inputs, "b", kind)
    assert choice.kind == kind
    found = fit_to_all_images(inputs, choice)
    features, targets = store.tap("b")[inputs.train], store.targets()[inputs.train]
    heads = family(kind)
    expected = heads.fit_at(found.l2, features, targets, of_classes(2), inputs.widths(choice.taps)).logits(features)
    np.testing.assert_allclose(found.fitted.logits(features), expected, atol=1e-6 * np.abs(expected).max())
    assert (found.probabilities.argmax(1) == targets).mean() > 0.8
    assert Head.of(found.fitted, choice.taps).spec.kind == kind
    monkeypatch.setattr(nonlinear, "MOST_IMAGES", 300)
    some = subsampling.evenly_spaced(1200, 300)
    expected = heads.fit_at(found.l2, features[some], targets[some], of_classes(2), inputs.widths(choice.taps)).logits(
        features
    )
    capped = fit_to_all_images(
        inputs, replace(choice, cross_validated=only(choice.cross_validated, found.l2))
    ).fitted.logits(features)
    np.testing.assert_allclose(capped, expected, atol=1e-6 * np.abs(expected).max())


def only(found: CrossValidated, penalty: float) -> CrossValidated:
    """The same result, as if no other penalty had been tried."""
    return replace(found, penalties=(penalty,), path_losses=(0.0,))


def test_a_head_that_is_pulled_stays_near_the_given_rows(tmp_path: Path, few_choose: None) -> None:
    start = Linear.of_raw(np.array([[0.5] * 6, [-0.5] * 6]), np.array([0.3, -0.3]))
    inputs = replace(prepare_head_inputs(store_of(tmp_path, 1600), PARAMS.model_copy(update={"l2": 1e4})), start=start)
    found = fit_to_all_images(inputs, choose_head(inputs, "auto", "auto"))
    assert isinstance(found.fitted, Linear)
    np.testing.assert_allclose(found.fitted.weight, start.weight, atol=1e-3)


@pytest.mark.slow
def test_memory_grows_by_less_than_the_features(tmp_path: Path, few_choose: None) -> None:
    def over(n: int):
        inputs = prepare_head_inputs(store_of(tmp_path / str(n), n, width=128), PARAMS)
        choice = choose_head(inputs, "b", "linear")
        return lambda: fit_to_all_images(inputs, choice)

    # A row of features takes 512 bytes, twice that in double precision.
    assert growth(over, 1000, 3000) < 150
