"""One stage from its inputs to its record: trained, judged and, if folds judged it, trained on all training images.

The folds show whether a stage helps and which of its epochs is best. Each of their models has seen only a part of the
training images, so a stage that is kept is trained again on all of them, and the validation images may still reject it.
"""

import time
from dataclasses import dataclass

from graft.finetune.cross_fitting import CrossFitted, Fold, cross_fit
from graft.finetune.full_fit import train_epochs
from graft.finetune.labelled_images import LabelledImages
from graft.finetune.objective import Logits, correct
from graft.finetune.prediction import predict, read_features
from graft.finetune.reporting import full_fit_reporter, held_out_reporter
from graft.finetune.stage_inputs import stage_inputs
from graft.finetune.stage_plan import Stage
from graft.finetune.stage_selection import Verdict, held_out_verdict, validation_verdict
from graft.finetune.tuning_context import TuningContext
from graft.finetune.wise_ft import at_best_share, interpolated
from graft.models.bundle_spec import StageRecord
from graft.models.classifier import Classifier


@dataclass(frozen=True)
class BestModel:
    """The best model so far; at first the head on frozen features."""

    classifier: Classifier
    fold_models: tuple[Classifier, ...] = ()
    """The best model of each fold, which has not seen its held-out images; empty before the first kept stage, and if
    there are no folds."""
    val_logits: Logits | None = None
    """Validation logits (n, C) of `classifier`; None before the first kept stage."""


def try_stage(context: TuningContext, number: int, stage: Stage, best: BestModel) -> tuple[StageRecord, BestModel]:
    """Return the record of a stage and the best model after it: the given one, unless the stage is kept.

    Args:
        context: shared by all stages.
        number: of the stage, from 0.
        stage: the groups to train, the maximum number of epochs and the learning rate.
        best: the model that the stage starts from.
    """
    started = time.monotonic()
    train = stage_inputs(best.classifier, stage, context.images.train.augmented)
    val = stage_inputs(best.classifier, stage, context.images.val.plain)
    fitted = _fit_folds(context, number, stage, _folds(context, stage, best, train, val))
    verdict = held_out_verdict(fitted, context.evidence, requested=context.plan.requested)
    found = best
    if verdict.kept and context.images.folds:
        classifier = _fit_all(context, number, stage, best, train, fitted)
        logits = predict(classifier, val)
        found = BestModel(classifier, fitted.classifiers, logits)
        verdict = validation_verdict(val.task, predict(best.classifier, val), logits, val.targets, verdict)
    elif verdict.kept:
        found = BestModel(fitted.classifiers[0], val_logits=fitted.after)
    record = _record(context, stage, fitted, verdict, time.monotonic() - started)
    return record, found if verdict.kept else best


def _folds(
    context: TuningContext, stage: Stage, best: BestModel, train: LabelledImages, val: LabelledImages
) -> list[Fold]:
    """Return the folds of the training images, or the training and validation images as one fold."""
    if not context.images.folds:
        return [Fold(best.classifier, train, val)]
    plain = stage_inputs(best.classifier, stage, context.images.train.plain)
    starts = best.fold_models or _first_fold_models(context, plain)
    return [
        Fold(start, train.subset(rows), plain.subset(held_out))
        for start, (rows, held_out) in zip(starts, context.images.folds, strict=True)
    ]


def _first_fold_models(context: TuningContext, plain: LabelledImages) -> tuple[Classifier, ...]:
    """Return for every fold the frozen backbone with a head that has not seen the fold's held-out images."""
    features = read_features(context.start.classifier, plain)
    return tuple(context.with_head_fitted_to(features[rows], plain.targets[rows]) for rows, _ in context.images.folds)


def _fit_folds(context: TuningContext, number: int, stage: Stage, folds: list[Fold]) -> CrossFitted:
    """Train all folds through the stage."""
    report = held_out_reporter(stage, number, len(context.images.folds), context.log)
    fitted = cross_fit(folds, stage, context.settings, report, context.checkpoints.one(f"{number}-folds"))
    return at_best_share(folds, fitted, stage) if context.plan.wise_ft else fitted


def _fit_all(
    context: TuningContext, number: int, stage: Stage, best: BestModel, train: LabelledImages, fitted: CrossFitted
) -> Classifier:
    """Train on all training images for the number of epochs, and to the share, that were best on the folds."""
    report = full_fit_reporter(f"stage {stage.name} on all training images", fitted.best_epoch)
    checkpoint = context.checkpoints.one(f"{number}-all")
    end = train_epochs(best.classifier, stage, train, context.settings, fitted.best_epoch, report, checkpoint)
    return interpolated(best.classifier, end, stage, fitted.share)


def _record(context: TuningContext, stage: Stage, fitted: CrossFitted, verdict: Verdict, seconds: float) -> StageRecord:
    return StageRecord(
        name=stage.name,
        groups=stage.groups,
        epochs=len(fitted.held_out_loss),
        evidence=context.evidence,
        start_accuracy=float(correct(fitted.task, fitted.before, fitted.targets).mean()),
        start_loss=fitted.start_loss,
        train_loss=fitted.train_loss,
        held_out_loss=fitted.held_out_loss,
        share=fitted.share,
        accuracy=float(correct(fitted.task, fitted.after, fitted.targets).mean()),
        log_loss=fitted.loss,
        kept=verdict.kept,
        reason=verdict.reason,
        best_epoch=fitted.best_epoch,
        seconds=round(seconds, 3),
    )
