"""Staged unfreezing: from a trained head downwards, one stage at a time, each kept only if held-out images improve.

Fine-tuning starts from the trained head, never from a random one, whose gradients would distort the features (LP-FT,
Kumar et al. 2022). On near domains fine-tuning often hurts. So nothing is tried where nothing can be won, a stage is
kept only for a clear gain on images that it was neither trained nor chosen on, and one that is not on the way to it
ends early.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from graft.backbones.feature_store import FeatureStore
from graft.backbones.weights import tensors_digest
from graft.core.source_code import source_digest
from graft.data.dataset import ImageDataset
from graft.finetune.budget import Budget
from graft.finetune.image_views import ImageViews, TuningImages
from graft.finetune.racing import Raced, race
from graft.finetune.refit import refit, with_statistics_of_tuned_features
from graft.finetune.reporting import print_gradient_norms, print_progress
from graft.finetune.stage_inputs import uncached_inputs
from graft.finetune.stage_plan import StagePlan, best_group, is_far, make_plan
from graft.finetune.stage_trial import BestModel
from graft.finetune.stage_verdict import nothing_to_win
from graft.finetune.surgical import relative_gradient_norms
from graft.finetune.training_settings import training_settings
from graft.finetune.tuning_context import TuningContext
from graft.heads.prior_correction import prior_shift
from graft.heads.protocols import Floats
from graft.models.bundle import ModelBundle
from graft.models.fit_abstention import with_abstention
from graft.params.fine_tune import FineTuneParams
from graft.runs.run_log import Log
from graft.runs.time_limit import stage_seconds
from graft.tasks.task import Targets, Task
from graft.training.checkpoints import Checkpoints
from graft.training.distributed import this_process
from graft.training.objective import Logits, label_weights
from graft.training.trainable_state import changed_groups

Finish = Callable[[ModelBundle, ImageDataset, ModelBundle, Logits | None], ModelBundle]
"""From a model whose features have changed, the dataset, the same model from before it saw the validation images, and
their logits, to the model with what depends on its features fitted again."""


def fine_tune(
    dataset: ImageDataset,
    bundle: ModelBundle,
    params: FineTuneParams,
    log: Log,
    out_of_fold: Floats | None = None,
    store: FeatureStore | None = None,
    finish: Finish | None = None,
) -> ModelBundle:
    """Return the bundle after the stages that helped; the given one, if none did or none was requested.

    If it is killed and called again, it resumes from the last checkpoint, with bit-identical results.

    If several processes train together (see `distributed`), each calls this and takes the same decisions; only the
    result of the first one is complete, the others' must be discarded.

    Args:
        dataset: the images.
        bundle: a trained head on frozen features.
        params: the section.
        log: receives the losses.
        out_of_fold: the head's probabilities (n, C) of the training images, each from a model that has not seen it;
            None: not known, so that it cannot be told whether there is anything to win.
        store: what the frozen backbone makes of these images; None: it is computed again where it is needed.
        finish: fits again what depends on the features, if these have changed; None: when to abstain.
    """
    if not (params.enabled or params.refit):
        return bundle
    pretrained = bundle.spec.backbone.weights.source != "none"
    validated = bool(len(dataset.labelled("val")))
    plan = _plan(dataset, bundle, params, pretrained=pretrained)
    allowed = stage_seconds()
    untried = _untried(dataset, params, plan, out_of_fold, validated=validated) if params.enabled else ""
    if params.enabled and not untried and allowed == 0.0:
        untried = "the budget of the run left no time for a stage"
    if untried:
        print_progress(f"{untried}; no stage is tried")
    if not plan.refit and (untried or not params.enabled):
        return replace(bundle, spec=bundle.spec.model_copy(update={"untried": untried}))
    images = TuningImages.of(dataset, bundle.transform, plan, params)
    weights = label_weights(bundle.task, images.train.plain.targets, bundle.spec.weighted)
    shift = None if weights is None else _logit_shift(bundle, images.train.plain.targets)
    settings = training_settings(params, plan, weights, pretrained=pretrained, logit_shift=shift)
    checkpoints = Checkpoints.of(_description(dataset, bundle, params))
    budget = Budget(params.budget, len(images.train.plain) + len(images.val.plain), checkpoints, allowed)
    context = TuningContext(bundle, plan, settings, images, checkpoints, budget, log, store)
    log.params({"plan": plan.summary | {"folds": len(images.folds)}})
    raced = race(context, plan.stages) if params.enabled and not untried else None
    tuned = _tuned(context, raced, untried)
    val_logits = raced.best.val_logits if raced else None
    result = refit(context, tuned, val_logits) if plan.refit else with_statistics_of_tuned_features(context, tuned)
    if result.spec.trained_groups and this_process().is_first:
        # The features have changed: out-of-distribution detection and prediction sets have to be fitted again.
        result = (finish or _with_abstention)(result, dataset, tuned, val_logits)
    checkpoints.clear()
    return result


def _with_abstention(
    result: ModelBundle, dataset: ImageDataset, tuned: ModelBundle, val_logits: Logits | None
) -> ModelBundle:
    return with_abstention(result, dataset, unseen=tuned, val_logits=val_logits)


def _logit_shift(bundle: ModelBundle, targets: Targets) -> Floats:
    """Return what corrected the logits (C,) of the heads for label weights."""
    pairs = zip(bundle.prior_shares, bundle.task.separate(targets), strict=True)
    return np.concatenate([prior_shift(share, part.targets, part.task) for share, part in pairs])


def _untried(
    dataset: ImageDataset, params: FineTuneParams, plan: StagePlan, out_of_fold: Floats | None, *, validated: bool
) -> str:
    """Return why no stage is tried, in words; empty if stages are."""
    if not (validated or plan.folds):
        return "no validation images and no folds to judge a stage by (fine_tune.folds=0)"
    if plan.requested or out_of_fold is None:
        return ""
    rows = dataset.labelled("train")
    groups = dataset.table["group"].astype(str).to_numpy()[rows]
    return nothing_to_win(dataset.task, np.asarray(out_of_fold), dataset.targets()[rows], groups)


def _plan(dataset: ImageDataset, bundle: ModelBundle, params: FineTuneParams, *, pretrained: bool) -> StagePlan:
    """Return the plan for a model and its data."""
    groups = bundle.spec.backbone.groups
    curve = {point.tap: point.log_loss for point in bundle.spec.curve}
    surgical = params.strategy == "surgical"
    best = _group_of_largest_gradient(dataset, bundle) if surgical else best_group(groups, curve)
    last = bundle.spec.curve[-1:]
    far = any(is_far(point.behind, point.error) for point in last)
    return make_plan(
        groups,
        len(dataset.labelled("train")),
        params,
        best=best,
        pretrained=pretrained,
        far=far,
        validation=bool(len(dataset.labelled("val"))),
    )


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


def _tuned(context: TuningContext, raced: Raced | None, untried: str) -> ModelBundle:
    """Return the best model as a bundle, with its temperature and a record of what was tried and what was not."""
    start = context.start
    if raced is None:
        return replace(start, spec=start.spec.model_copy(update={"untried": untried}))
    best = raced.best
    left_out = f"{context.budget.name}: {'; '.join(raced.left_out)}" if raced.left_out else ""
    trained = changed_groups(start.spec.backbone.groups, start.classifier, best.classifier)
    update: dict[str, Any] = {
        "stages": raced.records,
        "untried": left_out,
        "trained_groups": trained,
        "temperature": best.temperature,
    }
    if trained and not start.task.exclusive:
        update["task"] = _calibrated(context, best)
    return replace(start, spec=start.spec.model_copy(update=update), classifier=best.classifier.eval())


def _calibrated(context: TuningContext, best: BestModel) -> Task:
    """Return the task with its calibration and thresholds fitted again, on images that the model has not seen."""
    images = context.images
    rows = np.concatenate([held_out for _, held_out in images.folds]) if images.folds else None
    targets = images.val.plain.targets if rows is None else images.train.plain.targets[rows]
    task = context.start.task.calibrated(np.concatenate(best.before), targets)
    if best.val_logits is None or not len(images.val.plain):
        return task
    return task.decided(task.probabilities(best.val_logits), images.val.plain.targets)
