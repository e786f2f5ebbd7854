"""A model is judged by the answers that it serves."""

import numpy as np
import pytest

from graft.evaluation.assessment import Sampling, SplitPredictions, assess
from graft.evaluation.served_answers import answered, judge_served_answers
from graft.params.register_model import RegisterModelParams
from graft.reports.evaluation_page import Report, render
from graft.reports.registry_decision import with_served_answers
from graft.serving.promotion_gate import rejection_reasons
from graft.stats.decision_rule import Rule
from tests.support.tasks import of_labels

TASK = of_labels("ant", "bee")
SIZE = 400


@pytest.fixture(scope="module")
def split() -> SplitPredictions:
    """A rare class whose images never get half of the probability, though a fifth tells it well."""
    targets = (np.arange(SIZE) % 4 == 0).astype(np.int64)
    score = np.where(targets == 1, 0.3, 0.1) + np.random.default_rng(0).normal(scale=0.04, size=SIZE)
    score = score.clip(0.001, 0.999)
    model = np.stack([1 - score, score], axis=1)
    return SplitPredictions(targets, model, model, np.arange(SIZE))


def test_without_a_rule_nothing_changes(split: SplitPredictions) -> None:
    found = assess(split, split, split.targets, task=TASK, dataset_digest="d", sampling=Sampling(bootstrap=100))
    assert judge_served_answers(found, split, split.targets, None) is found
    assert answered(TASK, split.model, None) is split.model


def test_the_gate_judges_the_answers_at_the_threshold(split: SplitPredictions) -> None:
    found = assess(split, split, split.targets, task=TASK, dataset_digest="d", sampling=Sampling(bootstrap=100))
    rule = Rule(positive=1, threshold=0.2)
    served = judge_served_answers(found, split, split.targets, rule)
    right = ((split.model[:, 1] >= 0.2) == split.targets).mean()
    assert served.test["accuracy"].value == pytest.approx(right)
    assert served.test["auroc"] == found.test["auroc"]
    assert {row.label: row.correct for row in served.per_class}["bee"] > 90
    params = RegisterModelParams(decision="threshold", max_ece=1.0)
    assert rejection_reasons(served, None, 10.0, params) == []
    reasons = rejection_reasons(found, None, 10.0, params)
    assert "is not shown to beat the majority class" in reasons[0]
    assert reasons[1].startswith("recall of class 'bee' is 0.000")
    # The other way round: a threshold that calls everything a bee is refused, though the probabilities are good.
    all_bees = judge_served_answers(found, split, split.targets, Rule(positive=1, threshold=0.0))
    assert any("recall of class 'ant' is 0.000" in reason for reason in rejection_reasons(all_bees, None, 10.0, params))

    page = render(Report("t", found, {}))
    assert page.count("do not use it") == 1
    page = with_served_answers(page, served, "bee from 0.2000 on")
    assert "do not use it" not in page
    assert "Served with a threshold (bee from 0.2000 on), it is right on 9" in page
    assert "Better than always predicting the most frequent class, which is right on 75.0 %." in page
