"""From a sample to all training images: the head is that of all, the answers are of probes that never saw the image."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from graft.backbones.feature_store import FeatureStore
from graft.core import row_blocks
from graft.heads import full_fit, linear_probe, nonlinear
from graft.heads.depth_selection import decide, gather
from graft.heads.families import family
from graft.heads.full_fit import fit_whole
from graft.heads.linear_probe import CrossValidated, Linear, fit_path
from graft.heads.protocols import Kind, TrainingSet
from graft.models.classifier import Head
from graft.runs.params import TrainHeadParams
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
    monkeypatch.setattr(full_fit, "JUDGES", 60)
    monkeypatch.setattr(linear_probe, "HELD_CELLS", 0)
    monkeypatch.setattr(row_blocks, "BLOCK_BYTES", 2**14)


def test_where_all_images_choose_the_folds_have_answered(tmp_path: Path) -> None:
    evidence = gather(store_of(tmp_path, 160), PARAMS)
    reuse = decide(evidence, "auto", "linear")
    found = fit_whole(evidence, reuse)
    np.testing.assert_array_equal(evidence.rows, evidence.train)
    np.testing.assert_array_equal(found.probabilities, reuse.chosen.probabilities[reuse.chosen.best])
    assert found.l2 == reuse.chosen.penalty


def test_a_sample_chooses_and_all_images_are_learnt_from(tmp_path: Path, few_choose: None) -> None:
    store = store_of(tmp_path, 1600)
    evidence = gather(store, PARAMS)
    assert len(evidence.train) == 1200
    assert 110 <= len(evidence.rows) <= 130
    reuse = decide(evidence, "auto", "linear")
    assert reuse.taps == ("b",)
    assert len(reuse.chosen.targets) == len(evidence.rows)
    found = fit_whole(evidence, reuse)
    assert found.probabilities.shape == (1200, 2)
    assert found.l2 <= reuse.chosen.penalty
    features, targets = store.tap("b")[evidence.train], store.targets()[evidence.train]
    *_, expected = fit_path(TrainingSet(features, targets, of_classes(2)), [0.1, found.l2])
    logits = expected.logits(features)
    np.testing.assert_allclose(found.fitted.logits(features), logits, atol=0.03 * np.abs(logits).max())
    accuracy = (found.probabilities.argmax(1) == targets).mean()
    assert accuracy == pytest.approx((logits.argmax(1) == targets).mean(), abs=0.03)


def test_images_beyond_the_sample_do_not_answer_about_themselves(tmp_path: Path, few_choose: None) -> None:
    store = store_of(tmp_path / "one", 1600)
    evidence = gather(store, PARAMS)
    beyond = np.setdiff1d(evidence.train, evidence.rows)
    wrong = alternating(1600)
    wrong[beyond] = 1 - wrong[beyond]
    spoilt = replace(evidence, store=write_store(tmp_path / "two", {"a": store.tap("a"), "b": store.tap("b")}, wrong))
    before, after = (fit_whole(one, decide(one, "b", "linear")) for one in (evidence, spoilt))
    np.testing.assert_array_equal(after.probabilities, before.probabilities)
    assert np.abs(after.fitted.weight - before.fitted.weight).max() > 0.1


def test_more_images_bear_a_weaker_penalty(tmp_path: Path, few_choose: None) -> None:
    generator = np.random.default_rng(0)
    targets = alternating(4000)
    direction = generator.normal(0, 1, 60)
    # Each feature tells little and all together much: 120 images cannot weigh them, 3,000 can.
    tap = generator.normal(0, 1, (4000, 60)) + 0.25 * np.outer(2 * targets - 1, direction)
    evidence = gather(write_store(tmp_path, {"a": tap.astype(np.float32)}, targets), PARAMS)
    reuse = decide(evidence, "auto", "linear")
    found = fit_whole(evidence, reuse)
    assert found.l2 < reuse.chosen.penalty
    told = softmax(found.fitted.logits(tap), axis=1)[np.arange(4000), targets]
    (as_chosen,) = fit_path(
        TrainingSet(tap[evidence.train], targets[evidence.train], of_classes(2)), [reuse.chosen.penalty]
    )
    assert np.log(told).mean() > np.log(softmax(as_chosen.logits(tap), axis=1)[np.arange(4000), targets]).mean()


@pytest.mark.parametrize("kind", ["mlp", "cosine"])
def test_heads_of_other_kinds_learn_from_all_too(
    tmp_path: Path, few_choose: None, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    store = store_of(tmp_path, 1600)
    evidence = gather(store, PARAMS)
    reuse = decide(evidence, "b", kind)
    assert reuse.kind == kind
    found = fit_whole(evidence, reuse)
    features, targets = store.tap("b")[evidence.train], store.targets()[evidence.train]
    heads = family(kind)
    expected = heads.at(found.l2, features, targets, of_classes(2), evidence.widths(reuse.taps)).logits(features)
    np.testing.assert_allclose(found.fitted.logits(features), expected, atol=1e-6 * np.abs(expected).max())
    assert (found.probabilities.argmax(1) == targets).mean() > 0.8
    assert Head.of(found.fitted, reuse.taps).spec.kind == kind
    monkeypatch.setattr(nonlinear, "MOST_IMAGES", 300)
    some = subsampling.evenly_spaced(1200, 300)
    expected = heads.at(found.l2, features[some], targets[some], of_classes(2), evidence.widths(reuse.taps)).logits(
        features
    )
    capped = fit_whole(evidence, replace(reuse, chosen=only(reuse.chosen, found.l2))).fitted.logits(features)
    np.testing.assert_allclose(capped, expected, atol=1e-6 * np.abs(expected).max())


def only(found: CrossValidated, penalty: float) -> CrossValidated:
    """The same, as if no other penalty had been tried."""
    place = found.penalties.index(penalty)
    return CrossValidated((penalty,), found.probabilities[place : place + 1], found.targets, found.task)


def test_a_head_that_is_pulled_stays_near_the_given_rows(tmp_path: Path, few_choose: None) -> None:
    start = Linear.of_raw(np.array([[0.5] * 6, [-0.5] * 6]), np.array([0.3, -0.3]))
    evidence = replace(gather(store_of(tmp_path, 1600), PARAMS.model_copy(update={"l2": 1e4})), start=start)
    found = fit_whole(evidence, decide(evidence, "auto", "auto"))
    assert isinstance(found.fitted, Linear)
    np.testing.assert_allclose(found.fitted.weight, start.weight, atol=1e-3)


def test_memory_grows_by_less_than_the_features(tmp_path: Path, few_choose: None) -> None:
    def over(n: int):
        evidence = gather(store_of(tmp_path / str(n), n, width=128), PARAMS)
        reuse = decide(evidence, "b", "linear")
        return lambda: fit_whole(evidence, reuse)

    # A row of features takes 512 bytes, twice that in double precision.
    assert growth(over, 1000, 3000) < 150
