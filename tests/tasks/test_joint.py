"""Several tasks as one: the loss is the sum of theirs, and an image without a label for one is left out of it."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from graft.core.errors import ParamsError
from graft.tasks.joint import Joint
from graft.tasks.single_label import SingleLabel
from graft.tasks.tags import Tags
from tests.support.two_flags import TwoFlags

COLOUR = SingleLabel(name="colour", labels=("blue", "green", "red"), column="colour")
MARKS = Tags(name="marks", labels=("dent", "rust"), column="marks")
JOINT = Joint.of((COLOUR, MARKS), (False, False))
TABLE = pd.DataFrame(
    {"colour": ["red", "", "blue", "green"], "marks": ["dent", "rust", "?", ""], "other": ["a", "b", "c", "d"]}
)
LOGITS = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)


def test_targets_are_those_of_the_tasks() -> None:
    targets = JOINT.targets(TABLE)
    colour, marks = JOINT.separate(targets)
    assert colour.rows.tolist() == [True, False, True, True]
    assert colour.targets.tolist() == [2, 0, 1]
    assert marks.rows.tolist() == [True, True, False, True]
    assert marks.targets.tolist() == [[1, 0], [0, 1], [0, 0]]
    assert JOINT.labelled(targets).all()
    assert len(np.unique(JOINT.strata(targets))) == 4


def test_the_loss_is_the_sum_of_the_tasks_own() -> None:
    targets = JOINT.targets(TABLE)
    colour, marks = JOINT.separate(targets)
    expected = COLOUR.losses(LOGITS[colour.rows][:, :3], colour.targets).mean() / math.log(3)
    expected += MARKS.losses(LOGITS[marks.rows][:, 3:], marks.targets).mean() / (2 * math.log(2))
    logits = torch.tensor(LOGITS, requires_grad=True)
    loss = JOINT.loss(logits, torch.from_numpy(targets))
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    assert logits.grad[1, :3].abs().sum() == 0
    assert logits.grad[2, 3:].abs().sum() == 0


def test_a_batch_without_a_label_for_one_task_still_has_a_loss() -> None:
    targets = JOINT.targets(TABLE)[[2]]
    loss = JOINT.loss(torch.tensor(LOGITS[[2]]), torch.from_numpy(targets))
    assert loss.item() == pytest.approx(COLOUR.losses(LOGITS[[2], :3], np.array([0]))[0] / math.log(3), rel=1e-6)


def test_each_task_has_its_own_temperature() -> None:
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"colour": rng.choice(COLOUR.labels, 3000), "marks": rng.choice(["dent", "rust", ""], 3000)})
    targets = JOINT.targets(table)
    truth = np.concatenate([np.eye(3)[targets[:, 0].astype(int)], targets[:, 1:]], axis=1)
    logits = 3 * truth + rng.normal(0, 1.5, truth.shape)
    found = JOINT.calibrated(logits * [4.0, 4.0, 4.0, 1.0, 1.0], targets)
    alone = COLOUR.fit_temperature(4 * logits[:, :3], targets[:, 0].astype(int))
    assert found.temperatures == (pytest.approx(alone), 1.0)
    assert found.probabilities(logits)[:, :3] == pytest.approx(COLOUR.probabilities(logits[:, :3], alone))


def test_other_kinds_are_refused() -> None:
    with pytest.raises(ParamsError, match="a task of kind 'two_flags' is not trained together with others"):
        Joint.of((COLOUR, TwoFlags(name="look", labels=("red", "striped"))), (False, False))
