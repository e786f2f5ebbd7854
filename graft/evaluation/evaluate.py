"""The whole evaluation: from data, features and models to an `Evaluation`."""

from graft.backbones.feature_store import FeatureStore
from graft.data.dataset import ImageDataset
from graft.evaluation.assessment import Sampling, assess
from graft.evaluation.learning_and_cost import measure_costs, measure_learning_curve
from graft.evaluation.operating_point import (
    evaluate_threshold,
    measure_abstention,
    measure_calibration,
    measure_slices,
    positive_index,
)
from graft.evaluation.predictions import Predictions
from graft.evaluation.random_init_baseline import untrained_probabilities
from graft.evaluation.schema import Evaluation
from graft.models.bundle import ModelBundle
from graft.runs.params import EvaluateParams
from graft.stats.metrics import Values

RANDOM_INIT = "random_init"
FEW_IMAGES = 5_000
"""Up to this many images, `random_init=auto` compares with a backbone with random weights."""


def evaluate_model(
    images: ImageDataset,
    store: FeatureStore,
    head: ModelBundle,
    model: ModelBundle,
    answers: Predictions,
    params: EvaluateParams,
) -> Evaluation:
    """Measure everything that `params` requests on the test images.

    Validation images decide only on the threshold; everything else is only measured on them.

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
        others=_others(images, model, answers, params),
        positive=positive,
    )
    rows = images.table.iloc[answers.rows[held]].reset_index(drop=True)
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
                task, test.targets, answers.logits[held], model.spec.temperature, test.groups, sampling
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
            "learning": measure_learning_curve(store, head, params.seed) if params.learning_curve else None,
            "efficiency": measure_costs(model),
        }
    )


def _others(
    images: ImageDataset, model: ModelBundle, answers: Predictions, params: EvaluateParams
) -> dict[str, Values]:
    wanted = len(images) <= FEW_IMAGES if params.random_init == "auto" else params.random_init
    if not wanted:
        return {}
    rows = answers.rows[answers.in_split("test")]
    found = untrained_probabilities(images, model.spec.backbone, rows, params.seed)
    return {} if found is None else {RANDOM_INIT: found}
