"""A model judged by the answers that it serves, which a decision rule can change."""

import numpy as np

from graft.evaluation.assessment import Measured, Sampling, SplitPredictions, class_scores
from graft.evaluation.schema import Evaluation
from graft.stats.decision_rule import Rule
from graft.stats.metrics import Targets, Values
from graft.tasks.task import Task

ANSWER_METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
"""Metrics of the answers; the others are of the probabilities, which a rule does not change."""


def answered(task: Task, probabilities: Values, rule: Rule | None) -> Values:
    """Return probabilities (n, C) whose most probable class is the answer; with a rule, they are 0 and 1."""
    if rule is None:
        return probabilities
    return np.eye(task.outputs)[task.answers(probabilities, rule).chosen]


def judge_served_answers(
    found: Evaluation, test: SplitPredictions, train_targets: Targets, rule: Rule | None
) -> Evaluation:
    """Return the evaluation with everything about answers on test measured under a rule.

    Args:
        found: the evaluation, of the most probable classes.
        test: predictions on the test images.
        train_targets: of the training images, for the majority class.
        rule: None: the evaluation is returned as it is.
    """
    if rule is None:
        return found
    task, sampling = found.task, Sampling(confidence=found.confidence)
    chosen = answered(task, np.asarray(test.model, dtype=np.float64), rule)
    metrics = {name: metric for name, metric in task.metrics().items() if name in ANSWER_METRICS}
    own = Measured.of(task, test, chosen, sampling, metrics)
    majority = Measured.of(task, test, task.baseline(train_targets, len(test.targets)), sampling, metrics)
    before, pair = found.comparison["majority"], own.compared("majority", majority)
    pair = pair.model_copy(update={"differences": {**before.differences, **pair.differences}})
    return found.model_copy(
        update={
            "test": {**found.test, **own.scores()},
            "comparison": {**found.comparison, "majority": pair},
            "per_class": class_scores(test.targets, chosen, test.groups, task.labels, found.confidence),
        }
    )
