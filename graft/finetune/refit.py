"""Refit for small datasets: once everything is chosen, the model is trained again with the validation images.

The choices stay: the groups the head reads, its penalty, the kept stages and their numbers of epochs, the temperature.
The validation images no longer judge anything, because the model has now seen them: its predictions for them from
before the refit are stored with it, because its new ones would be biased.
"""

from dataclasses import replace

from graft.finetune.full_fit import train_epochs
from graft.finetune.objective import Logits
from graft.finetune.prediction import predict, read_features
from graft.finetune.reporting import full_fit_reporter
from graft.finetune.stage_inputs import joint_inputs, stage_inputs
from graft.finetune.stage_plan import Stage
from graft.finetune.tuning_context import TuningContext
from graft.finetune.wise_ft import interpolated
from graft.models.bundle import ModelBundle
from graft.models.bundle_spec import StageRecord
from graft.models.classifier import Classifier

TriedStages = list[tuple[Stage, StageRecord]]


def refit(context: TuningContext, tuned: ModelBundle) -> ModelBundle:
    """Return the model with its head and kept stages trained again on training and validation images together.

    Args:
        context: shared by all stages.
        tuned: the model after the stages, with a record of each stage that was tried.
    """
    tried = list(zip(context.plan.stages, tuned.spec.stages, strict=False))  # the search may have ended early
    best = _refit_head(context, tried)
    for number, (stage, record) in enumerate(tried):
        if record.kept:
            best = _refit_stage(context, number, stage, record, best)
    return replace(
        tuned,
        spec=tuned.spec.model_copy(update={"refit": True}),
        classifier=best.eval(),
        validation=_validation_logits(context, tuned, tried),
    )


def _refit_head(context: TuningContext, tried: TriedStages) -> Classifier:
    """Return the frozen backbone with a head fitted to the training and validation images."""
    start, images = context.start.classifier, context.images
    first = tried[0][0] if tried else _head_alone(start)
    plain = joint_inputs(start, first, images.train.plain, images.val.plain)
    return context.with_head_fitted_to(read_features(start, plain), plain.targets)


def _refit_stage(
    context: TuningContext, number: int, stage: Stage, record: StageRecord, start: Classifier
) -> Classifier:
    """Train on training and validation images for the chosen number of epochs and to the chosen share."""
    train = joint_inputs(start, stage, context.images.train.augmented, context.images.val.augmented)
    report = full_fit_reporter(f"refit with validation images, stage {stage.name}", record.best_epoch)
    checkpoint = context.checkpoints.one(f"{number}-refit")
    end = train_epochs(start, stage, train, context.settings, record.best_epoch, report, checkpoint)
    return interpolated(start, end, stage, record.share)


def _validation_logits(context: TuningContext, tuned: ModelBundle, tried: TriedStages) -> Logits:
    """Return the model's logits of the validation images, from before it is trained with them."""
    kept = [stage for stage, record in tried if record.kept]
    stage = kept[-1] if kept else tried[0][0] if tried else _head_alone(tuned.classifier)
    return predict(tuned.classifier, stage_inputs(tuned.classifier, stage, context.images.val.plain))


def _head_alone(classifier: Classifier) -> Stage:
    """Return a stage that only serves to select inputs: those of the backbone's last group."""
    return Stage((classifier.backbone.spec.groups[-1],), epochs=0, lr=0.0)
