"""Any number of labels for each image: targets, losses, thresholds, calibration, answers."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from graft.tasks.kinds import parse_task
from graft.tasks.tags import Tags

TAGS = Tags(name="defects", labels=("dent", "rust", "scratch"), column="defects")


def targets(*cells: str) -> np.ndarray:
    return TAGS.targets(pd.DataFrame({"defects": cells}))


def test_cells_become_flags_and_texts_again() -> None:
    found = targets("dent|scratch", "", "?", "rust")
    assert found.tolist() == [[1, 0, 1], [0, 0, 0], [-1, -1, -1], [0, 1, 0]]
    assert TAGS.labelled(found).tolist() == [True, True, False, True]
    assert TAGS.names(found) == ["dent|scratch", "", "?", "rust"]
    assert TAGS.counts(found) == {"": 1, "dent": 1, "rust": 1, "scratch": 1}


def test_strata_are_the_rarest_label() -> None:
    found = targets("dent|rust", "dent", "dent", "", "rust|scratch")
    assert TAGS.strata(found).tolist() == [2, 1, 1, 0, 3]


def test_the_gradient_is_that_of_the_loss() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 3)).astype(np.float32)
    truth = (rng.random((6, 3)) < 0.5).astype(np.float32)
    weight = rng.uniform(0.5, 2, 6)
    value, slope = TAGS.objective(logits.copy(), truth, weight)
    free = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    each = torch.nn.functional.binary_cross_entropy_with_logits(free, torch.tensor(truth).double(), reduction="none")
    whole = (each.sum(1) * torch.tensor(weight)).sum()
    whole.backward()
    assert value == pytest.approx(whole.item())
    assert slope == pytest.approx(free.grad.numpy(), abs=1e-6)
    mean = TAGS.loss(free, torch.tensor(truth).double())
    assert mean.item() == pytest.approx(TAGS.losses(logits, truth).mean(), rel=1e-6)


def test_each_label_has_its_own_temperature() -> None:
    """Logits of one label are three times too large, the others are right."""
    rng = np.random.default_rng(1)
    right = rng.normal(0, 2, (20_000, 3))
    truth = (rng.random(right.shape) < expit(right)).astype(np.float32)
    found = TAGS.calibrated(right * [1.0, 3.0, 1.0], truth)
    assert np.round(found.temperatures, 1).tolist() == [1.0, 3.0, 1.0]
    assert found.logits(found.probabilities(right)) == pytest.approx(right, abs=1e-6)
    assert found.question == TAGS


def test_thresholds_beat_a_half_on_a_rare_label() -> None:
    """A label on one image of twenty, calibrated: its probability rarely reaches a half."""
    rng = np.random.default_rng(2)
    odds = rng.normal(-4, 1.5, (4_000, 3))
    truth = (rng.random(odds.shape) < expit(odds)).astype(np.float32)
    scores = expit(odds)
    chosen = TAGS.decided(scores[:2000], truth[:2000], "max_f1")
    rest, answered = truth[2000:], scores[2000:]
    f1 = [task.metrics()["macro_f1"](rest, answered, None)[0] for task in (TAGS, chosen)]
    assert 0.03 < truth.mean() < 0.08
    assert f1[1] > f1[0] + 0.05


def test_a_goal_for_thresholds() -> None:
    rng = np.random.default_rng(3)
    odds = rng.normal(0, 2, (5_000, 3))
    truth = (rng.random(odds.shape) < expit(odds)).astype(np.float32)
    chosen = TAGS.decided(expit(odds), truth, "precision>=0.9")
    named = chosen.named(expit(odds))
    assert [(truth[:, k][named[:, k]].mean() >= 0.9) for k in range(3)] == [True] * 3
    assert parse_task(chosen.model_dump(mode="json"), ()) == chosen


def test_answers_as_text_and_as_numbers() -> None:
    task = TAGS.model_copy(update={"thresholds": (0.5, 0.2, 0.5)})
    found = task.columns(np.array([[0.9, 0.3, 0.1], [0.1, 0.1, 0.1], [0.1, 0.1, 0.8]]))
    assert found["label"] == ["dent|rust", "", "scratch"]
    assert found["tags"] == [["dent", "rust"], [], ["scratch"]]
    chosen = task.answers(np.array([[0.9, 0.3, 0.1], [0.1, 0.1, 0.1], [0.1, 0.1, 0.8]])).chosen
    assert chosen[1:].tolist() == [0, 3]
    assert task.categorised(chosen).tolist() == [4, 0, 3]
    assert task.categories[4] == "several"
