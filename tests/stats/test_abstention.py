"""The rule for when to abstain: fitted, saved, applied."""

from pathlib import Path

import numpy as np
import pytest

from graft.core.errors import ModelError
from graft.stats.abstention import Abstention, fit_abstention
from graft.stats.metrics import softmax


def images(size: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, probabilities and targets of three classes, the first two of which overlap."""
    generator = np.random.default_rng(seed)
    targets = np.arange(size) % 3
    centres = np.abs(np.random.default_rng(9).normal(size=(3, 30)))
    centres[1] = centres[0] + 0.3
    features = centres[targets] + generator.normal(size=(size, 30)) * 0.3
    distance = ((features[:, None] - centres) ** 2).sum(axis=2)
    return features, softmax(-distance), targets


@pytest.fixture
def abstention() -> Abstention:
    features, _, targets = images(300, 0)
    val_features, probabilities, val_targets = images(200, 1)
    fitted = fit_abstention(features, targets, val_features, probabilities, val_targets)
    assert fitted
    return fitted


def test_too_few_validation_images_give_no_rule() -> None:
    features, probabilities, targets = images(30, 0)
    assert fit_abstention(features, targets, features[:8], probabilities[:8], targets[:8]) is None
    assert fit_abstention(features, targets, features[:9], probabilities[:9], targets[:9]) is not None


def test_sets_contain_the_right_class_as_often_as_stated(abstention: Abstention) -> None:
    features, probabilities, targets = images(1500, 2)
    decision = abstention.decide(probabilities, features)
    assert decision.sets[np.arange(1500), targets].mean() == pytest.approx(0.9, abs=0.04)
    assert decision.out_of_distribution.mean() < 0.04
    np.testing.assert_array_equal(decision.out_of_distribution, decision.ood > 1)


def test_it_abstains_on_out_of_distribution_images_however_confident_the_model_is(abstention: Abstention) -> None:
    outside = np.abs(np.random.default_rng(5).normal(size=(50, 30))) * 4
    sure = np.tile([0.0, 0.0, 1.0], (50, 1))
    decision = abstention.decide(sure, outside)
    assert decision.out_of_distribution.mean() > 0.6
    np.testing.assert_array_equal(decision.abstain, decision.out_of_distribution)
    assert (decision.sets.sum(axis=1) == 1).all()


def test_it_abstains_between_two_classes(abstention: Abstention) -> None:
    features, _, _ = images(3, 4)
    decision = abstention.decide(np.tile([0.5, 0.5, 0.0], (3, 1)), features)
    assert decision.abstain.all()


def test_it_is_the_same_after_a_round_trip(abstention: Abstention, tmp_path: Path) -> None:
    abstention.save(tmp_path)
    again = Abstention.load(tmp_path)
    features, probabilities, _ = images(60, 3)
    first, second = abstention.decide(probabilities, features), again.decide(probabilities, features)
    np.testing.assert_array_equal(first.sets, second.sets)
    np.testing.assert_allclose(first.ood, second.ood, rtol=1e-6)
    assert again.coverage == 0.9
    with pytest.raises(ModelError, match=r"trust\.safetensors: no such file"):
        Abstention.load(tmp_path / "elsewhere")
