"""The whole evaluation: from data, features and models to an `Evaluation`."""

from graft.backbones.feature_store import FeatureStore
from graft.data.dataset import ImageDataset
from graft.evaluation.assessment import Sampling, assess
from graft.evaluation.learning_and_cost import costs_of, learning_of
from graft.evaluation.operating_point import calibration_of, positive_index, slices_of, threshold_of, trust_of
from graft.evaluation.predictions import Predictions
from graft.evaluation.random_init_baseline import untrained_probabilities
from graft.evaluation.schema import Evaluation
from graft.models.bundle import ModelBundle
from graft.runs.params import EvaluateParams
from graft.stats.metrics import Values

RANDOM_INIT = "random_init"
FEW_IMAGES = 5_000
"""So many are shown to a backbone with random weights unasked."""


def measure(
    images: ImageDataset,
    store: FeatureStore,
    head: ModelBundle,
    model: ModelBundle,
    answers: Predictions,
    params: EvaluateParams,
) -> Evaluation:
    """Measure everything that `params` asks for on the test images.

    Validation images decide about the threshold alone; everything else is only measured.

    Raises:
        ParamsError: if `params.positive` is no label of these images.
    """
    task = images.task
    positive = positive_index(params.positive, task)
    sampling = Sampling(params.bootstrap, params.confidence, params.seed)
    test, val, held = answers.predicted("test"), answers.predicted("val"), answers.within("test")
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
    if model.trust and answers.ood is not None:
        judged = model.trust.judge_scored(test.model, answers.ood[held])
        trust = trust_of(test.targets, test.model, judged, test.groups, model.trust.coverage, params.confidence)
    return found.model_copy(
        update={
            "trained_groups": model.spec.trained_groups,
            "calibration": calibration_of(
                task, test.targets, answers.logits[held], model.spec.temperature, test.groups, sampling
            ),
            "threshold": threshold_of(
                (val.targets, val.model),
                (test.targets, test.model),
                test.groups,
                task,
                params.threshold,
                params.confidence,
                positive,
            ),
            "trust": trust,
            "slices": slices_of(rows, right, params.slices, params.confidence),
            "learning": learning_of(store, head, params.seed) if params.learning_curve else None,
            "efficiency": costs_of(model),
        }
    )


def _others(
    images: ImageDataset, model: ModelBundle, answers: Predictions, params: EvaluateParams
) -> dict[str, Values]:
    wanted = len(images) <= FEW_IMAGES if params.random_init == "auto" else params.random_init
    if not wanted:
        return {}
    rows = answers.rows[answers.within("test")]
    found = untrained_probabilities(images, model.spec.backbone, rows, params.seed)
    return {} if found is None else {RANDOM_INIT: found}
