"""Staged unfreezing: from a trained head downwards, one stage at a time, each kept only if held-out images improve.

Fine-tuning starts from the trained head, never from a random one, whose gradients would distort the features (LP-FT,
Kumar et al. 2022). On near domains fine-tuning often hurts. So the result is never less accurate on validation than the
head it started from, and its log loss there is not worse by more than a standard error.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from graft.backbones.weights import tensors_digest
from graft.core.source_code import source_digest
from graft.data.dataset import ImageDataset
from graft.finetune.checkpoints import Checkpoints
from graft.finetune.distributed import this_process
from graft.finetune.image_views import ImageViews, TuningImages
from graft.finetune.objective import label_weights
from graft.finetune.refit import refit
from graft.finetune.reporting import print_gradient_norms, print_progress
from graft.finetune.stage_inputs import uncached_inputs
from graft.finetune.stage_plan import Stage, StagePlan, best_group, is_far, make_plan
from graft.finetune.stage_trial import BestModel, try_stage
from graft.finetune.surgical import relative_gradient_norms
from graft.finetune.trainable_state import changed_groups
from graft.finetune.training_settings import training_settings
from graft.finetune.tuning_context import TuningContext
from graft.models.bundle import ModelBundle
from graft.models.bundle_spec import StageRecord
from graft.models.fit_abstention import with_abstention
from graft.runs.params import FineTuneParams
from graft.runs.run_log import Log


def fine_tune(dataset: ImageDataset, bundle: ModelBundle, params: FineTuneParams, log: Log) -> ModelBundle:
    """Return the bundle after the stages that helped; the given one, if none did or none was requested.

    If it is killed and called again, it resumes from the last checkpoint, with bit-identical results.

    If several processes train together (see `distributed`), each calls this and takes the same decisions; only the
    result of the first one is complete, the others' must be discarded.
    """
    if not (params.enabled or params.refit):
        return bundle
    if not len(dataset.labelled("val")):
        print_progress("no validation images: nothing is trained; set validate_data.val_fraction above 0")
        return bundle
    pretrained = bundle.spec.backbone.weights.source != "none"
    plan = _plan(dataset, bundle, params, pretrained=pretrained)
    images = TuningImages.of(dataset, bundle.transform, plan, params)
    weights = label_weights(bundle.task, images.train.plain.targets, bundle.spec.weighted)
    settings = training_settings(params, plan, weights, pretrained=pretrained)
    checkpoints = Checkpoints.of(_description(dataset, bundle, params))
    context = TuningContext(bundle, plan, settings, images, checkpoints, log)
    log.params({"plan": plan.summary | {"folds": len(images.folds)}})
    tuned = _through_stages(context, plan.stages if params.enabled else ())
    if plan.refit:
        tuned = refit(context, tuned)
    if tuned.spec.trained_groups and this_process().is_first:
        # The features have changed: out-of-distribution detection and prediction sets have to be fitted again.
        tuned = with_abstention(tuned, dataset)
    checkpoints.clear()
    return tuned


def _plan(dataset: ImageDataset, bundle: ModelBundle, params: FineTuneParams, *, pretrained: bool) -> StagePlan:
    """Return the plan for a model and its data."""
    groups = bundle.spec.backbone.groups
    curve = {point.tap: point.log_loss for point in bundle.spec.curve}
    surgical = params.strategy == "surgical"
    best = _group_of_largest_gradient(dataset, bundle) if surgical else best_group(groups, curve)
    far = bool(curve) and is_far(list(curve.values()))
    return make_plan(groups, len(dataset.labelled("train")), params, best=best, pretrained=pretrained, far=far)


def _group_of_largest_gradient(dataset: ImageDataset, bundle: ModelBundle) -> str:
    images = uncached_inputs(ImageViews(dataset, "train", bundle.transform))
    norms = relative_gradient_norms(bundle.classifier, images)
    print_gradient_norms(norms)
    return max(norms, key=norms.__getitem__)


def _description(dataset: ImageDataset, bundle: ModelBundle, params: FineTuneParams) -> dict[str, Any]:
    """Return everything that determines the results of a fine-tuning run; it identifies the run's checkpoints."""
    return {
        "model": tensors_digest(bundle.classifier.state_dict()),
        "images": dataset.spec.digest,
        "params": params.model_dump(mode="json"),
        "torch": torch.__version__,
        "code": source_digest(__name__),
    }


def _through_stages(context: TuningContext, stages: Sequence[Stage]) -> ModelBundle:
    """Return the model after the stages that helped, with a record of each stage that was tried."""
    best = BestModel(context.start.classifier)
    records: list[StageRecord] = []
    for number, stage in enumerate(stages):
        record, best = try_stage(context, number, stage, best)
        records.append(record)
        print_progress(f"stage {stage.name}: {record.reason}")
        if not (record.kept or context.plan.persistent):
            break
    return _tuned(context, best, records)


def _tuned(context: TuningContext, best: BestModel, records: Sequence[StageRecord]) -> ModelBundle:
    """Return the best model as a bundle, with the temperature fitted again if a stage was kept."""
    start, temperature = context.start, context.start.spec.temperature
    if best.val_logits is not None:
        temperature = start.task.fit_temperature(best.val_logits, context.images.val.plain.targets)
    trained = changed_groups(start.spec.backbone.groups, start.classifier, best.classifier)
    update = {"stages": tuple(records), "trained_groups": trained, "temperature": temperature}
    return replace(start, spec=start.spec.model_copy(update=update), classifier=best.classifier.eval())
