"""One label for each image: the same loss for heads, trainer and scores, and what is read from the table."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad

from graft.core.errors import DataError
from graft.stats.decision_rule import Rule
from graft.stats.metrics import METRICS
from tests.support.tasks import of_classes, of_labels


def drawn(n: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(0, 3, (n, k)).astype(np.float32), generator.integers(0, k, n)


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 40), k=st.integers(2, 9), seed=st.integers(0, 99))
def test_heads_trainer_and_scores_have_one_loss(n: int, k: int, seed: int) -> None:
    task, (logits, targets) = of_classes(k), drawn(n, k, seed)
    expected = F.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(targets), reduction="none").numpy()
    np.testing.assert_allclose(task.losses(logits, targets), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(task.log_losses(task.probabilities(logits), targets), expected, rtol=1e-6, atol=1e-12)
    value, _ = task.objective(logits.copy(), targets, np.full(n, 1 / n))
    assert value == pytest.approx(expected.mean(), rel=1e-5, abs=1e-5)  # of float32 logits
    of_trainer = task.loss(torch.from_numpy(logits), torch.from_numpy(targets))
    assert float(of_trainer) == pytest.approx(expected.mean(), rel=1e-5, abs=1e-5)  # of float32 logits


def test_the_gradient_for_heads_is_the_slope_of_the_loss() -> None:
    task, (logits, targets) = of_classes(4), drawn(6, 4, 0)
    weight = np.random.default_rng(1).random(6)

    def value(flat: np.ndarray) -> float:
        return float(weight @ task.losses(flat.reshape(6, 4), targets))

    def slope(flat: np.ndarray) -> np.ndarray:
        return task.objective(flat.reshape(6, 4).astype(np.float32), targets, weight)[1].ravel()

    assert check_grad(value, slope, logits.astype(np.float64).ravel()) < 1e-4


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weights_and_smoothing_are_those_of_torch(smoothing: float) -> None:
    task, (logits, targets) = of_classes(3), drawn(20, 3, 2)
    x, y, weight = torch.from_numpy(logits), torch.from_numpy(targets), torch.tensor([0.5, 1.0, 2.0])
    for reduction in ("mean", "sum"):
        found = task.loss(x, y, label_weights=weight, label_smoothing=smoothing, reduction=reduction)
        assert torch.equal(found, F.cross_entropy(x, y, weight, label_smoothing=smoothing, reduction=reduction))


def test_balanced_weights_make_every_class_count_the_same() -> None:
    task, targets = of_classes(4), np.array([0, 0, 0, 0, 0, 0, 1, 1, 2])  # class 3 does not occur
    of_image = task.image_weights(targets, task.label_weights(targets))
    assert of_image.mean() == pytest.approx(1.0)
    assert np.bincount(targets, of_image) == pytest.approx([3.0, 3.0, 3.0])
    assert task.imbalance(targets) == 6.0


def test_prior_logits_are_the_frequencies() -> None:
    task, targets = of_classes(3), np.array([0, 0, 0, 1])
    found = task.probabilities(task.prior_logits(targets, np.full(4, 0.25))[None])[0]
    assert found == pytest.approx([0.75, 0.25, 0.0], abs=1e-6)
    assert task.baseline(targets, 2).tolist() == [[0.75, 0.25, 0.0]] * 2


def test_targets_are_read_from_its_column_and_rows_without_a_label_are_known() -> None:
    task = of_labels("ant", "bee")
    targets = task.targets(pd.DataFrame({"label": ["bee", "", "ant"]}))
    assert targets.tolist() == [1, -1, 0]
    assert task.labelled(targets).tolist() == [True, False, True]
    assert task.names(targets) == ["bee", "", "ant"]
    with pytest.raises(DataError, match="no column 'label' of labels in the table; it has colour"):
        task.targets(pd.DataFrame({"colour": ["red"]}))


def test_answers_follow_the_rule_and_right_is_the_most_probable_class() -> None:
    task, probabilities = of_labels("ant", "bee"), np.array([[0.7, 0.3], [0.2, 0.8]])
    plain = task.columns(probabilities)
    assert plain == {"label": ["ant", "bee"], "confidence": [0.7, 0.8]}
    early = task.columns(probabilities, Rule(positive=1, threshold=0.25))
    assert early == {"label": ["bee", "bee"], "confidence": [0.3, 0.8]}
    assert task.correct(probabilities, np.array([0, 0])).tolist() == [True, False]


def test_its_metrics_are_those_of_a_classifier() -> None:
    assert list(of_classes(3).metrics()) == list(METRICS)
    assert of_classes(3).headline in METRICS
