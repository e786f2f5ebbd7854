"""Which class is the answer, and that confidence and abstention follow it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from graft.imaging.transform import Transform
from graft.serving.server import ServingSpec
from graft.stats.decision_rule import Rule, abstain_with_rule, apply_rule, confidences

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def binary(positive: int, scores: list[float]) -> np.ndarray:
    found = np.empty((len(scores), 2))
    found[:, positive], found[:, 1 - positive] = scores, 1 - np.array(scores)
    return found


@given(positive=st.integers(0, 1), threshold=st.floats(0, 1), scores=SCORES)
def test_the_positive_class_is_answered_from_the_threshold_on(
    positive: int, threshold: float, scores: list[float]
) -> None:
    probabilities = binary(positive, scores)
    answers = apply_rule(probabilities, Rule(positive=positive, threshold=threshold))
    assert ((answers == positive) == (np.array(scores) >= threshold)).all()
    assert set(answers) <= {0, 1}
    rows = np.arange(len(scores))
    assert (confidences(probabilities, answers) == probabilities[rows, answers]).all()


def test_without_a_rule_the_most_probable_class_is_answered() -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), 30)
    answers = apply_rule(probabilities, None)
    assert (answers == probabilities.argmax(axis=1)).all()
    assert (confidences(probabilities, answers) == probabilities.max(axis=1)).all()
    assert apply_rule(np.zeros((0, 4)), None).shape == confidences(np.zeros((0, 4)), answers[:0]).shape == (0,)


def test_it_abstains_if_the_answer_is_not_plausible() -> None:
    probabilities = binary(1, [0.3, 0.3, 0.9, 0.95])
    sets = np.array([[True, False], [True, True], [False, True], [False, True]])
    plain = np.array([False, True, False, True])  # the last one is out-of-distribution
    low = apply_rule(probabilities, Rule(positive=1, threshold=0.2))
    assert list(low) == [1, 1, 1, 1]
    assert list(abstain_with_rule(low, sets, plain)) == [True, True, False, True]
    assert list(abstain_with_rule(apply_rule(probabilities, None), sets, plain)) == list(plain)


def test_a_rule_is_for_two_classes_and_a_probability() -> None:
    rule = Rule(positive=1, threshold=0.2)
    assert ServingSpec(labels=("a", "b"), transform=Transform(size=8), rule=rule).rule == rule
    with pytest.raises(ValidationError, match="a rule is for two classes, but there are 3"):
        ServingSpec(labels=("a", "b", "c"), transform=Transform(size=8), rule=rule)
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        Rule(positive=1, threshold=1.5)
