"""The whole evaluation: from data, features and models to an `Evaluation`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from graft.backbones.feature_store import FeatureStore
from graft.data.dataset import ImageDataset
from graft.evaluation.assessment import OtherModel, Sampling, assess
from graft.evaluation.learning_and_cost import measure_costs, measure_learning_curve
from graft.evaluation.operating_point import (
    evaluate_threshold,
    measure_abstention,
    measure_calibration,
    measure_slices,
    positive_index,
)
from graft.evaluation.predictions import Predictions
from graft.evaluation.random_init_baseline import TEST_IMAGES, UntrainedBackbone
from graft.evaluation.schema import Evaluation
from graft.evaluation.slices import unsliced
from graft.models.bundle import ModelBundle
from graft.params.evaluate import EvaluateParams
from graft.tasks.columns import LABEL, column_of
from graft.tasks.task import Task

RANDOM_INIT = "random_init"


def evaluate_model(
    images: ImageDataset,
    store: FeatureStore,
    head: ModelBundle,
    model: ModelBundle,
    answers: Predictions,
    params: EvaluateParams,
    untrained: UntrainedBackbone,
    other_tasks: Sequence[Task] = (),
) -> Evaluation:
    """Measure everything that `params` requests on the test images.

    Validation images decide only on the threshold; everything else is only measured on them.

    Args:
        images: the dataset.
        store: its features.
        head: on frozen features.
        model: after fine-tuning.
        answers: of both.
        params: the section of the step.
        untrained: the same backbone with random weights.
        other_tasks: that are asked of the same images: their labels are slices.

    Raises:
        ParamsError: if `params.positive` is not a label of these images.
    """
    task = images.task
    positive = positive_index(params.positive, task)
    sampling = Sampling(params.bootstrap, params.confidence, params.seed)
    test, val, held = answers.of_split("test"), answers.of_split("val"), answers.in_split("test")
    found = assess(
        test,
        val,
        images.targets()[images.labelled("train")],
        task=task,
        dataset_digest=images.spec.digest,
        sampling=sampling,
        others=_others(images, answers, params, untrained),
        positive=positive,
    )
    rows = _with_other_tasks(images.table.iloc[answers.rows[held]].reset_index(drop=True), task, other_tasks)
    right = task.correct(test.model, test.targets)
    trust = None
    if model.abstention and answers.ood is not None:
        decision = model.abstention.decide_from_scores(test.model, answers.ood[held])
        trust = measure_abstention(
            test.targets, test.model, decision, test.groups, model.abstention.coverage, params.confidence
        )
    return found.model_copy(
        update={
            "trained_groups": model.spec.trained_groups,
            "calibration": measure_calibration(
                task, test, answers.logits[held], model.spec.temperature, sampling, found.test
            ),
            "threshold": evaluate_threshold(
                (val.targets, val.model),
                (test.targets, test.model),
                test.groups,
                task,
                params.threshold,
                params.confidence,
                positive,
            ),
            "trust": trust,
            "slices": measure_slices(rows, right, params.slices, params.confidence),
            "unsliced": unsliced(rows, params.slices),
            "learning": measure_learning_curve(store, head, params.seed) if params.learning_curve else None,
            "efficiency": measure_costs(model),
        }
    )


def _with_other_tasks(table: pd.DataFrame, task: Task, others: Sequence[Task]) -> pd.DataFrame:
    """Return a table to slice by: with the labels of the other tasks, without those of this one."""
    first = next((other for other in others if column_of(other) == LABEL), None)
    if first is None:
        return table
    own = column_of(task)
    return table.drop(columns=own).assign(**{f"task {first.name}": table[LABEL]})


def _others(
    images: ImageDataset, answers: Predictions, params: EvaluateParams, untrained: UntrainedBackbone
) -> dict[str, OtherModel]:
    if params.random_init is False or (params.random_init == "auto" and images.task.outputs > TEST_IMAGES):
        return {}
    found = untrained.predict(images.task)
    if found is None:
        return {}
    test, train = answers.rows[answers.in_split("test")], len(images.labelled("train"))
    places = None if len(found.test) == len(test) else np.searchsorted(test, found.test)
    trained_on = None if found.trained_on == train else found.trained_on
    return {RANDOM_INIT: OtherModel(found.probabilities, places, trained_on)}
