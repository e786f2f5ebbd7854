"""Small data uses it all: once everything is chosen, the model is trained again with the validation images.

What was chosen stays: the groups the head reads, its penalty, the stages that were kept and for how many epochs, the
temperature. Nothing is judged by the validation images any more, for the model has now seen them: what the model
predicted for them before is kept beside it, because its own predictions there are no longer honest.
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
        context: what all stages share.
        tuned: the model after the stages, with a record of each that was tried.
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
    """Return the frozen backbone with a head fitted to training and validation images."""
    start, images = context.start.classifier, context.images
    first = tried[0][0] if tried else _head_alone(start)
    plain = joint_inputs(start, first, images.train.plain, images.val.plain)
    return context.with_head_fitted_to(read_features(start, plain), plain.targets)


def _refit_stage(
    context: TuningContext, number: int, stage: Stage, record: StageRecord, start: Classifier
) -> Classifier:
    """Train on training and validation images for as long, and go as far of the way, as was chosen."""
    train = joint_inputs(start, stage, context.images.train.augmented, context.images.val.augmented)
    report = full_fit_reporter(f"refit with validation images, stage {stage.name}", record.best_epoch)
    checkpoint = context.checkpoints.one(f"{number}-refit")
    end = train_epochs(start, stage, train, context.settings, record.best_epoch, report, checkpoint)
    return interpolated(start, end, stage, record.share)


def _validation_logits(context: TuningContext, tuned: ModelBundle, tried: TriedStages) -> Logits:
    """Return what the model predicts for the validation images before it is trained with them."""
    kept = [stage for stage, record in tried if record.kept]
    stage = kept[-1] if kept else tried[0][0] if tried else _head_alone(tuned.classifier)
    return predict(tuned.classifier, stage_inputs(tuned.classifier, stage, context.images.val.plain))


def _head_alone(classifier: Classifier) -> Stage:
    """Return a stage of which only the inputs are wanted: those of the backbone's last group."""
    return Stage((classifier.backbone.spec.groups[-1],), epochs=0, lr=0.0)
