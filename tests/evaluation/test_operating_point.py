"""The model in use: the threshold is chosen on validation and only measured on test."""

import numpy as np
import pytest

from graft.core.errors import ParamsError
from graft.evaluation.assessment import Measured, Sampling, SplitPredictions, assess
from graft.evaluation.operating_point import (
    choose_rule,
    evaluate_threshold,
    measure_abstention,
    measure_calibration,
    positive_index,
)
from graft.evaluation.schema import Evaluation
from graft.stats.abstention import AbstentionDecision
from graft.stats.decision_rule import Rule
from graft.stats.metrics import METRICS
from tests.support.tasks import of_classes, of_labels


def binary(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 2, size)
    score = 1 / (1 + np.exp(-2 * (generator.normal(size=size) + 2 * targets - 1)))
    return targets, np.stack([1 - score, score], axis=1)


def test_the_threshold_comes_from_validation_and_the_numbers_from_test() -> None:
    val, test = binary(300, 0), binary(400, 1)
    found = evaluate_threshold(val, test, np.arange(400), of_labels("ant", "bee"), "recall>=0.95", 0.95)
    assert found
    assert (found.positive, found.goal, found.reached) == ("bee", "recall>=0.95", True)
    named = test[1][:, 1] >= found.threshold
    assert found.test["recall"].value == pytest.approx(named[test[0] == 1].mean())
    assert found.test["precision"].value == pytest.approx((test[0] == 1)[named].mean())
    assert found.test["recall"].value > 0.9
    swapped = evaluate_threshold(
        val, (1 - test[0], test[1]), np.arange(400), of_labels("ant", "bee"), "recall>=0.95", 0.95
    )
    assert swapped
    assert swapped.threshold == found.threshold


def test_there_is_no_threshold_without_validation_or_with_more_classes() -> None:
    val, test = binary(30, 0), binary(40, 1)
    assert evaluate_threshold(val, test, np.arange(40), of_classes(3), "max_f1", 0.95) is None
    assert evaluate_threshold((val[0][:0], val[1][:0]), test, np.arange(40), of_classes(2), "max_f1", 0.95) is None


def test_calibration_before_and_after() -> None:
    targets, probabilities = binary(800, 2)
    logits = 3 * np.log(probabilities)
    test, sampling = SplitPredictions(targets, probabilities, probabilities, np.arange(800)), Sampling(bootstrap=100)
    scores = Measured.of(of_classes(2), test, probabilities, sampling, METRICS).scores()
    found = measure_calibration(of_classes(2), test, logits, 3.0, sampling, scores)
    assert found.after["ece"].value < found.before["ece"].value
    assert found.after["log_loss"].value < found.before["log_loss"].value


def test_the_effect_of_abstaining() -> None:
    targets, probabilities = np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.1, 0.9]])
    sets = np.array([[True, False], [True, True], [False, True], [False, True]])
    foreign = np.array([False, False, False, True])
    decision = AbstentionDecision(sets, np.array([0.5, 0.6, 0.7, 1.5]), foreign, np.array([False, True, False, True]))
    found = measure_abstention(targets, probabilities, decision, np.arange(4), 0.9, 0.95)
    assert found.held.value == 1.0
    assert found.set_size == 1.25
    assert (found.answered.value, found.accuracy_answered.value, found.foreign.value) == (0.5, 1.0, 0.25)


def test_either_class_can_be_the_positive_one() -> None:
    val, test = binary(300, 0), binary(400, 1)
    found = evaluate_threshold(val, test, np.arange(400), of_labels("ant", "bee"), "precision>=0.9", 0.95, positive=0)
    assert found
    assert found.positive == "ant"
    named = test[1][:, 0] >= found.threshold
    assert found.test["precision"].value == pytest.approx((test[0] == 0)[named].mean())
    assert found.test["recall"].value == pytest.approx(named[test[0] == 0].mean())


def test_the_positive_class_is_given_by_its_label() -> None:
    assert positive_index(None, of_labels("ant", "bee")) == positive_index("bee", of_labels("ant", "bee")) == 1
    assert positive_index("ant", of_labels("ant", "bee")) == 0
    assert positive_index(None, of_labels("ant", "bee", "cow")) == 1
    with pytest.raises(ParamsError, match=r"^evaluate\.positive='wasp': no such label; expected 'ant' or 'bee'$"):
        positive_index("wasp", of_labels("ant", "bee"))
    with pytest.raises(
        ParamsError, match=r"^evaluate\.positive='ant': only two classes .* there are 3; leave it null$"
    ):
        positive_index("ant", of_labels("ant", "bee", "cow"))


def evaluation_of(classes: tuple[str, ...]) -> Evaluation:
    targets = np.arange(30) % len(classes)
    model = np.eye(len(classes))[targets] * 0.5 + 0.5 / len(classes)
    predicted = SplitPredictions(targets, model, model, np.arange(30))
    return assess(
        predicted, predicted, targets, task=of_labels(*classes), dataset_digest="d", sampling=Sampling(bootstrap=100)
    )


def test_a_registered_model_uses_a_threshold_only_if_there_is_one() -> None:
    found = evaluation_of(("ant", "bee"))
    val = binary(300, 0)
    chosen = evaluate_threshold(val, val, np.arange(300), of_labels("ant", "bee"), "recall>=0.95", 0.95, positive=0)
    assert chosen
    with_threshold = found.model_copy(update={"threshold": chosen})
    assert choose_rule(with_threshold, "argmax") is None
    assert choose_rule(with_threshold, "threshold") == Rule(positive=0, threshold=chosen.threshold)
    with pytest.raises(ParamsError, match=r"^register_model\.decision='threshold': evaluate had no val"):
        choose_rule(found, "threshold")
    with pytest.raises(
        ParamsError, match=r"^register_model\.decision='threshold': only two .* there are 3; use argmax$"
    ):
        choose_rule(evaluation_of(("a", "b", "c")), "threshold")
