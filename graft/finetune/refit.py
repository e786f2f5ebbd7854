"""Refit for small datasets: once everything is chosen, the model is trained again with the validation images.

The choices stay: the groups the head reads, its penalty, the kept stages and their numbers of epochs, the temperature.
The validation images no longer judge anything, because the model has now seen them: its predictions for them from
before the refit are stored with it, because its new ones would be biased.
"""

from collections.abc import Sequence
from dataclasses import replace

from graft.finetune.objective import Logits
from graft.finetune.prediction import predict, read_features
from graft.finetune.reporting import full_fit_reporter
from graft.finetune.stage_inputs import joint_inputs, stage_inputs
from graft.finetune.stage_plan import Stage
from graft.finetune.trainer import train_epochs
from graft.finetune.tuning_context import TuningContext
from graft.finetune.wise_ft import interpolated
from graft.models.bundle import ModelBundle
from graft.models.bundle_spec import StageRecord
from graft.models.classifier import Classifier
from graft.models.validation_logits import ValidationLogits


def refit(context: TuningContext, tuned: ModelBundle, val_logits: Logits | None) -> ModelBundle:
    """Return the model with its head and kept stages trained again on training and validation images together.

    Args:
        context: shared by all stages.
        tuned: the model after the stages, with a record of each stage that was tried.
        val_logits: its logits (n, C) of the validation images, on which nothing was chosen; None: not computed yet.
    """
    kept = [record for record in tuned.spec.stages if record.kept]
    best = _refit_head(context, tuned.spec.stages)
    for number, record in enumerate(kept):
        best = _refit_stage(context, number, record, best)
    if val_logits is None:
        top = _first_stage(tuned.classifier, tuned.spec.stages)
        val_logits = predict(tuned.classifier, stage_inputs(tuned.classifier, top, context.images.val.plain))
    return replace(
        tuned,
        spec=tuned.spec.model_copy(update={"refit": True}),
        classifier=best.eval(),
        validation=ValidationLogits.of(context.images.val.plain.ids, val_logits),
    )


def _refit_head(context: TuningContext, tried: Sequence[StageRecord]) -> Classifier:
    """Return the frozen backbone with a head fitted to the training and validation images."""
    start, images = context.start.classifier, context.images
    plain = joint_inputs(start, _first_stage(start, tried), images.train.plain, images.val.plain)
    return context.with_head_fitted_to(read_features(start, plain), plain.targets)


def _refit_stage(context: TuningContext, number: int, record: StageRecord, start: Classifier) -> Classifier:
    """Train on training and validation images for the chosen number of epochs and to the chosen share."""
    rate = context.plan.stages[0].lr
    stage = Stage(record.groups, record.planned_epochs, rate)
    train = joint_inputs(start, stage, context.images.train.augmented, context.images.val.augmented)
    report = full_fit_reporter(f"refit with validation images, stage {stage.name}", record.best_epoch)
    checkpoint = context.checkpoints.one(f"{number}-refit")
    end = train_epochs(start, stage, train, context.settings, record.best_epoch, report, checkpoint)
    return interpolated(start, end, stage, record.share)


def _first_stage(classifier: Classifier, tried: Sequence[StageRecord]) -> Stage:
    """Return a stage that only serves to select inputs: the first one tried, or the backbone's last group."""
    groups = tried[0].groups if tried else (classifier.backbone.spec.groups[-1],)
    return Stage(groups, epochs=0, lr=0.0)
