"""Refit for small datasets: once everything is chosen, the model is trained again with the validation images.

The choices stay: the groups the head reads, its penalty, the kept stages and their numbers of epochs, the temperature.
The validation images no longer judge anything, because the model has now seen them: its predictions for them from
before the refit are stored with it, because its new ones would be biased.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from graft.finetune.frozen_features import frozen_features, frozen_logits
from graft.finetune.reporting import full_fit_reporter
from graft.finetune.stage_inputs import joint_inputs, stage_inputs
from graft.finetune.tuning_context import TuningContext
from graft.finetune.wise_ft import interpolated
from graft.models.bundle import ModelBundle
from graft.models.bundle_spec import StageRecord
from graft.models.classifier import Classifier
from graft.models.fit_head import with_feature_statistics
from graft.models.validation_logits import ValidationLogits
from graft.training.objective import Logits
from graft.training.prediction import read_features
from graft.training.stage import Stage
from graft.training.trainer import train_epochs


def refit(context: TuningContext, tuned: ModelBundle, val_logits: Logits | None) -> ModelBundle:
    """Return the model with its head and kept stages trained again on training and validation images together.

    Args:
        context: shared by all stages.
        tuned: the model after the stages, with a record of each stage that was tried.
        val_logits: its logits (n, C) of the validation images, on which nothing was chosen; None: not computed yet.
    """
    kept = [record for record in tuned.spec.stages if record.kept]
    train, val = context.images.train.plain, context.images.val.plain
    targets, groups = np.concatenate([train.targets, val.targets]), np.concatenate([train.groups, val.groups])
    features = frozen_features(context, train, val)
    best = context.with_head_fitted_to(features, targets)
    for number, record in enumerate(kept):
        best = _refit_stage(context, number, record, best)
    if kept:
        lowest = _lowest_stage(best, kept)
        features = read_features(best, joint_inputs(best, lowest, train, val))
    if val_logits is None:  # no stage was kept
        val_logits = frozen_logits(context, val)
    refitted = replace(
        tuned,
        spec=tuned.spec.model_copy(update={"refit": True}),
        classifier=best.eval(),
        validation=ValidationLogits.of(val.ids, val_logits),
    )
    return with_feature_statistics(refitted, features, targets, groups)


def with_statistics_of_tuned_features(context: TuningContext, tuned: ModelBundle) -> ModelBundle:
    """Return the model with statistics of the features that its trained groups now compute for the training images."""
    kept = [record for record in tuned.spec.stages if record.kept]
    if not kept:
        return tuned
    lowest = _lowest_stage(tuned.classifier, kept)
    train = stage_inputs(tuned.classifier, lowest, context.images.train.plain)
    return with_feature_statistics(tuned, read_features(tuned.classifier, train), train.targets, train.groups)


def _refit_stage(context: TuningContext, number: int, record: StageRecord, start: Classifier) -> Classifier:
    """Train on training and validation images for the chosen number of epochs and to the chosen share."""
    rate = context.plan.stages[0].lr
    stage = Stage(record.groups, record.planned_epochs, rate)
    train = joint_inputs(start, stage, context.images.train.augmented, context.images.val.augmented)
    report = full_fit_reporter(f"refit with validation images, stage {stage.name}", record.best_epoch)
    checkpoint = context.checkpoints.one(f"{number}-refit")
    end = train_epochs(start, stage, train, context.settings, record.best_epoch, report, checkpoint)
    return interpolated(start, end, stage, record.share)


def _lowest_stage(classifier: Classifier, kept: Sequence[StageRecord]) -> Stage:
    """Return a stage that only serves to select inputs: the kept one that reaches lowest, below which all is frozen."""
    index = classifier.backbone.spec.index
    return Stage(min((record.groups for record in kept), key=lambda groups: index(groups[0])), epochs=0, lr=0.0)
