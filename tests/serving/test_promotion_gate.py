from typing import Any

import numpy as np
import pytest

from graft.evaluation.assessment import Sampling, SplitPredictions, assess
from graft.evaluation.headline import verdict
from graft.evaluation.schema import Evaluation
from graft.params.register_model import RegisterModelParams
from graft.serving.promotion_gate import ChampionComparison, compared_metrics, rejection_reasons
from graft.stats.model_comparison import compare
from tests.support.tasks import of_labels

CLASSES = ("ant", "bee", "cat")
PARAMS = RegisterModelParams()


def probabilities(targets: np.ndarray, accuracy: float, certainty: float = 0.9, seed: int = 0) -> np.ndarray:
    """Return probabilities of a model with this accuracy; the errors of two calls with the same seed are nested."""
    generator = np.random.default_rng(seed)
    wrong = generator.random(len(targets)) >= accuracy
    answers = np.where(wrong, (targets + 1) % len(CLASSES), targets)
    scores = np.full((len(targets), len(CLASSES)), (1 - certainty) / (len(CLASSES) - 1))
    scores[np.arange(len(targets)), answers] = certainty
    return scores


def found(size: int = 300, accuracy: float = 0.9, **options: Any) -> tuple[np.ndarray, np.ndarray, Evaluation]:
    targets = np.arange(size) % len(CLASSES)
    model = probabilities(targets, accuracy, **options)
    predicted = SplitPredictions(targets, model, model, np.arange(size))
    evaluation = assess(
        predicted, predicted, targets, task=of_labels(*CLASSES), dataset_digest="d", sampling=Sampling(bootstrap=100)
    )
    return targets, model, evaluation


def against(
    targets: np.ndarray, model: np.ndarray, champion: np.ndarray, metric: str = "accuracy"
) -> ChampionComparison:
    _, _, evaluation = found()
    metrics = compared_metrics(metric, evaluation)
    return ChampionComparison(3, CLASSES, compare(targets, model, champion, metrics=metrics, count=200))


def test_the_first_model_only_has_to_beat_the_majority_class() -> None:
    _, _, evaluation = found()
    assert rejection_reasons(evaluation, None, 10.0, PARAMS) == []


def test_a_model_that_guesses_is_refused() -> None:
    _, _, evaluation = found(accuracy=0.33)
    (reason,) = [line for line in rejection_reasons(evaluation, None, 10.0, PARAMS) if "majority" in line]
    assert reason.startswith(
        "accuracy 0.2800 is not shown to beat the majority class's 0.3333: difference -0.0533, int"
    )


def test_a_model_as_good_as_the_champion_replaces_it() -> None:
    targets, model, evaluation = found()
    assert rejection_reasons(evaluation, against(targets, model, model), 10.0, PARAMS) == []


def test_a_model_that_is_better_by_chance_alone_is_refused() -> None:
    _, _, evaluation = found(size=24, accuracy=0.5, seed=3)
    assert evaluation.test["accuracy"].value > evaluation.baseline["majority"]["accuracy"].value
    reasons = rejection_reasons(evaluation, None, 10.0, RegisterModelParams(class_floor=0.0, max_ece=1.0))
    assert any("is not shown to beat the majority class's" in reason for reason in reasons)


def of_two(answers: np.ndarray, targets: np.ndarray) -> Evaluation:
    model = np.stack([1 - answers, answers], axis=1)
    predicted = SplitPredictions(targets, model, model, np.arange(len(targets)))
    return assess(
        predicted, predicted, targets, task=of_labels("ant", "bee"), dataset_digest="d", sampling=Sampling(100)
    )


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "auroc"])
@pytest.mark.parametrize("kind", ["useless", "finds the rare class", "good"])
def test_gate_and_page_have_one_verdict(kind: str, metric: Any) -> None:
    targets, generator = (np.arange(400) % 20 == 0).astype(np.int64), np.random.default_rng(0)
    signal = {"useless": 0.0, "finds the rare class": 0.72, "good": 2.0}[kind]
    score = 0.5 + signal * (targets - 0.5) * 0.45 + (generator.random(400) - 0.5) * 0.6
    evaluation = of_two(score.clip(0.01, 0.99), targets)
    params = RegisterModelParams(metric=metric, class_floor=0.0, max_ece=1.0)
    reasons, told = rejection_reasons(evaluation, None, 10.0, params), verdict(evaluation)
    advised = "do not use it" not in told.remarks[0].text
    assert advised == (told.tone == "good") == (kind != "useless")
    if kind == "good":
        assert reasons == []
    elif not advised:
        assert "is not shown to beat the majority class" in reasons[0]
    else:
        assert told.remarks[0].text.endswith("but it finds the other classes too: its balanced accuracy is higher.")
        assert (reasons == []) == (metric != "accuracy")


def test_a_better_model_replaces_the_champion() -> None:
    targets, model, evaluation = found(accuracy=0.95)
    champion = probabilities(targets, 0.85)
    assert rejection_reasons(evaluation, against(targets, model, champion), 10.0, PARAMS) == []


def test_a_worse_model_is_refused_with_the_numbers() -> None:
    targets, model, evaluation = found(accuracy=0.80)
    champion = probabilities(targets, 0.95)
    (reason,) = rejection_reasons(evaluation, against(targets, model, champion), 10.0, PARAMS)
    assert reason.startswith("accuracy is not shown to be within 0.02 of champion version 3: difference -0.1")
    assert reason.endswith("on 300 test images")


def test_too_few_images_show_nothing() -> None:
    targets, model, evaluation = found(size=30)
    other = model[np.roll(np.arange(30), 3)]  # as often right, but on other images
    (reason,) = rejection_reasons(evaluation, against(targets, model, other), 10.0, PARAMS)
    assert "not shown to be within 0.02" in reason
    generous = RegisterModelParams(tolerance=0.4)
    assert rejection_reasons(evaluation, against(targets, model, other), 10.0, generous) == []


def test_a_model_that_answers_as_the_champion_does_is_not_refused_for_too_few_images() -> None:
    targets, model, evaluation = found(size=30)
    assert rejection_reasons(evaluation, against(targets, model, model), 10.0, PARAMS) == []
    surer = model**2 / (model**2).sum(axis=1, keepdims=True)
    assert rejection_reasons(evaluation, against(targets, surer, model), 10.0, PARAMS) == []


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1", "auroc"])
def test_the_user_chooses_the_metric(metric: Any) -> None:
    targets, model, evaluation = found(accuracy=0.5)
    champion = probabilities(targets, 0.95)
    params = RegisterModelParams(metric=metric, class_floor=0.0, max_ece=1.0)
    (reason,) = rejection_reasons(evaluation, against(targets, model, champion, metric), 10.0, params)
    assert reason.startswith(f"{metric} is not shown")


def test_other_classes_cannot_be_compared() -> None:
    _, _, evaluation = found()
    other = ChampionComparison(1, tuple("0123456789"), None)
    (reason,) = rejection_reasons(evaluation, other, 10.0, PARAMS)
    assert reason == (
        "champion version 1 has other classes (0, 1, 2, 3, 4 and 5 more): set register_model.name for another task, "
        "or promote by hand"
    )


def test_a_class_that_is_never_found_is_named() -> None:
    targets, model, _ = found(accuracy=1.0)
    model = model.copy()
    model[targets == 1] = (0.8, 0.1, 0.1)
    predicted = SplitPredictions(targets, model, model, np.arange(len(targets)))
    evaluation = assess(
        predicted, predicted, targets, task=of_labels(*CLASSES), dataset_digest="d", sampling=Sampling(bootstrap=100)
    )
    reasons = rejection_reasons(evaluation, None, 10.0, PARAMS)
    assert reasons[0] == "recall of class 'bee' is 0.000 on 100 test images, below register_model.class_floor=0.2"


def test_bad_calibration_and_slowness_and_the_switch_are_reasons() -> None:
    _, _, evaluation = found(accuracy=0.6, certainty=0.999)
    params = RegisterModelParams(promote=False, max_milliseconds=50)
    reasons = rejection_reasons(evaluation, None, 80.0, params)
    assert reasons[0] == "register_model.promote is false"
    assert reasons[1].startswith("calibration error is 0.")
    assert reasons[2] == "one image takes 80 ms, above register_model.max_milliseconds=50"
