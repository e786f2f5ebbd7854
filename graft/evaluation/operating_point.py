"""The model in use: its calibration, its threshold, when it abstains, and the slices where it is weak."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.core.errors import ParamsError
from graft.evaluation.assessment import Measured, Sampling, SplitPredictions
from graft.evaluation.schema import (
    AbstentionScore,
    Calibration,
    Estimate,
    Evaluation,
    Scores,
    SliceScore,
    ThresholdScore,
)
from graft.evaluation.slices import slices
from graft.stats.abstention import AbstentionDecision
from graft.stats.confidence_intervals import proportion
from graft.stats.conformal import covers
from graft.stats.decision_rule import Rule
from graft.stats.metrics import Floats, Targets, predictions
from graft.stats.threshold_selection import Goal, choose_threshold
from graft.tasks.task import Task

CALIBRATION_METRICS = ("ece", "brier", "log_loss")


def measure_calibration(
    task: Task, test: SplitPredictions, logits: Floats, temperature: float, sampling: Sampling, scores: Scores
) -> Calibration:
    """Measure calibration with and without the temperature, on test.

    Args:
        task: what was learnt.
        test: predictions on the test images.
        logits: theirs (n, k).
        temperature: that was fitted.
        sampling: of the intervals.
        scores: of the test images, with the temperature.
    """
    metrics = task.metrics()
    measured = {name: metrics[name] for name in CALIBRATION_METRICS if name in metrics}
    before = Measured.of(task, test, task.probabilities(logits), sampling, measured).scores()
    return Calibration(temperature=temperature, before=before, after={name: scores[name] for name in measured})


def positive_index(label: str | None, task: Task) -> int:
    """Return the index of the positive one of two classes: that of `evaluate.positive`, else the second.

    Raises:
        ParamsError: if there is no such label, or the task has not exactly two classes.
    """
    classes = task.labels
    if label is None:
        return 1
    if not task.exclusive:
        raise ParamsError(f"evaluate.positive={label!r}: task {task.name!r} has no positive class; leave it null")
    if len(classes) != 2:
        raise ParamsError(
            f"evaluate.positive={label!r}: only two classes have a positive one, but there are {len(classes)}; "
            "leave it null"
        )
    if label not in classes:
        raise ParamsError(f"evaluate.positive={label!r}: no such label; expected {classes[0]!r} or {classes[1]!r}")
    return list(classes).index(label)


def evaluate_threshold(
    val: tuple[Targets, Floats],
    test: tuple[Targets, Floats],
    test_groups: npt.NDArray[Any],
    task: Task,
    goal: str,
    confidence: float,
    positive: int = 1,
) -> ThresholdScore | None:
    """Choose a threshold for the positive one of two classes on validation and measure it on test.

    Args:
        val: targets (m,) and probabilities (m, 2).
        test: targets (n,) and probabilities (n, 2).
        test_groups: (n,).
        task: the result is None unless it has two exclusive classes.
        goal: see `threshold_selection.Goal.parse`.
        confidence: of the intervals.
        positive: index of the positive class.
    """
    classes = task.labels
    if not task.exclusive or len(classes) != 2 or not len(val[0]):
        return None
    aim = Goal.parse(goal)
    choice = choose_threshold(val[0] == positive, val[1][:, positive], aim)
    wanted, named = test[0] == positive, test[1][:, positive] >= choice.threshold
    return ThresholdScore(
        positive=classes[positive],
        goal=str(aim),
        threshold=choice.threshold,
        reached=choice.reached,
        test={
            "accuracy": Estimate.of(proportion(wanted == named, test_groups, confidence)),
            "precision": Estimate.of(proportion(wanted[named], test_groups[named], confidence)),
            "recall": Estimate.of(proportion(named[wanted], test_groups[wanted], confidence)),
        },
    )


def choose_rule(found: Evaluation, decision: Literal["argmax", "threshold"]) -> Rule | None:
    """Return the decision rule of a registered model; None: the most probable class is the answer.

    Raises:
        ParamsError: if `register_model.decision` requests a threshold but none was chosen.
    """
    if decision == "argmax":
        return None
    if len(found.classes) != 2 or not found.task.exclusive:
        raise ParamsError(
            f"register_model.decision='threshold': only two classes have one, but there are {len(found.classes)}; "
            "use argmax"
        )
    if found.threshold is None:
        raise ParamsError(
            "register_model.decision='threshold': evaluate had no validation images to choose one; use argmax"
        )
    return Rule(positive=found.classes.index(found.threshold.positive), threshold=found.threshold.threshold)


def measure_abstention(
    targets: Targets,
    probabilities: Floats,
    decision: AbstentionDecision,
    groups: npt.NDArray[Any],
    coverage: float,
    confidence: float,
) -> AbstentionScore:
    """Measure the prediction sets and the abstention rule on test."""
    right, answered = predictions(probabilities) == targets, ~decision.abstain
    return AbstentionScore(
        coverage=coverage,
        held=Estimate.of(proportion(covers(decision.sets, targets), groups, confidence)),
        set_size=float(decision.sets.sum(axis=1).mean()),
        answered=Estimate.of(proportion(answered, groups, confidence)),
        accuracy_answered=Estimate.of(proportion(right[answered], groups[answered], confidence)),
        foreign=Estimate.of(proportion(decision.out_of_distribution, groups, confidence)),
    )


def measure_slices(
    table: pd.DataFrame, right: npt.NDArray[np.bool_], columns: Sequence[str], confidence: float
) -> list[SliceScore]:
    """Return every slice of the test images, the worst first."""
    return [
        SliceScore(
            column=one.column,
            value=one.value,
            images=one.images,
            correct=one.correct,
            accuracy=Estimate.of(one.accuracy),
            p_value=one.p_value,
        )
        for one in slices(table, right, columns, confidence)
    ]
