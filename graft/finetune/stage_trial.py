"""One stage from its inputs to its record: tried, trained, judged and, if folds judged it, trained on all images.

The folds show whether a stage helps. Each of their models has seen only a part of the training images, so a stage that
is kept is trained again on all of them, and the validation images may still reject it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from graft.backbones.flops import count_operations
from graft.finetune.budget import StageCost
from graft.finetune.cross_fitting import CrossFitted, Fold, cross_fit
from graft.finetune.reporting import full_fit_reporter, held_out_reporter
from graft.finetune.stage_inputs import stage_inputs
from graft.finetune.stage_verdict import Comparison, HeldOut, Verdict, held_out_verdict, validation_verdict
from graft.finetune.tuning_context import TuningContext
from graft.finetune.wise_ft import at_best_share, interpolated
from graft.models.bundle_spec import StageRecord
from graft.models.classifier import Classifier
from graft.stats.subsampling import sample
from graft.training.labelled_images import LabelledImages
from graft.training.objective import Logits, correct, cross_calibrated
from graft.training.prediction import predict, read_features
from graft.training.stage import Stage
from graft.training.trainer import train_epochs

FEWEST_IMAGES, MOST_IMAGES = 512, 5_000
"""A trial trains on a quarter of the images, but not on fewer than the first number or more than the second."""


@dataclass(frozen=True)
class BestModel:
    """The best model so far; at first the head on frozen features."""

    classifier: Classifier
    starts: tuple[Classifier, ...]
    """One model per fold that has not seen its held-out images; `classifier` itself if the validation images judge."""
    before: tuple[Logits, ...]
    """Logits (n, C) of each fold's held-out images by its model."""
    head: Logits
    """Logits (n, C) of the held-out images of all folds by the heads on frozen features."""
    temperature: float
    """Fitted on images that the model had not seen."""
    val_logits: Logits | None = None
    """Logits (n, C) of the validation images that were neither trained nor chosen on; None: not computed yet."""


@dataclass(frozen=True)
class StageInputs:
    """What a stage reads."""

    stage: Stage
    train: LabelledImages
    """In augmented views."""
    plain: LabelledImages | None
    """The training images without augmentation, if folds judge."""
    val: LabelledImages
    cost: StageCost

    @classmethod
    def of(cls, context: TuningContext, stage: Stage) -> "StageInputs":
        """Return the inputs of a stage. Its frozen groups are those of the first model, whatever was trained since."""
        start, images = context.start.classifier, context.images
        train = stage_inputs(start, stage, images.train.augmented)
        plain = stage_inputs(start, stage, images.train.plain) if images.folds else None
        first = start.backbone.spec.index(stage.name)
        cost = StageCost.of(
            count_operations(start.backbone), first, cached=train.source.after is not None, views=context.plan.views
        )
        return cls(stage, train, plain, stage_inputs(start, stage, images.val.plain), cost)

    def briefly(self) -> "StageInputs":
        """Return the inputs of the stage's trial, which reads the images without augmentation."""
        return replace(self, stage=trial_of(self.stage), cost=replace(self.cost, views=1))

    def held_out(self, context: TuningContext) -> list[LabelledImages]:
        """Return the held-out images of every fold, or the validation images."""
        if self.plain is None:
            return [self.val]
        return [self.plain.subset(rows) for _, rows in context.images.folds]

    def folds(self, context: TuningContext, best: BestModel) -> list[Fold]:
        """Return the folds of the training images, or the training and validation images as one fold."""
        rows = [rows for rows, _ in context.images.folds] or [np.arange(len(self.train))]
        parts = zip(best.starts, rows, self.held_out(context), best.before, strict=True)
        return [Fold(start, self.train.subset(rows), held_out, before) for start, rows, held_out, before in parts]


@dataclass(frozen=True)
class Trial:
    """A stage's short training, which shows whether the complete one is worth its time."""

    inputs: StageInputs
    record: StageRecord
    found: Comparison
    promising: bool


def first_model(context: TuningContext, inputs: StageInputs) -> BestModel:
    """Return the head on frozen features, with one like it for every fold that has not seen its held-out images."""
    classifier = context.start.classifier
    starts: tuple[Classifier, ...] = (classifier,)
    if inputs.plain is not None:
        features = read_features(classifier, inputs.plain)
        targets = inputs.plain.targets
        starts = tuple(context.with_head_fitted_to(features[rows], targets[rows]) for rows, _ in context.images.folds)
    pairs = zip(starts, inputs.held_out(context), strict=True)
    before = tuple(predict(start, held_out) for start, held_out in pairs)
    val_logits = before[0] if inputs.plain is None else None
    return BestModel(classifier, starts, before, np.concatenate(before), context.start.spec.temperature, val_logits)


def trial_of(stage: Stage) -> Stage:
    """Return half of a stage's epochs, with a complete schedule of their own.

    A one-cycle that is cut off while its rate is high looks worse than its weights are. And a shorter one misleads: on
    794 digits, a stage that takes log loss from 0.397 to 0.274 in eight epochs raised it to 0.436 in two, and reached
    0.326 in four.
    """
    return replace(stage, epochs=-(-stage.epochs // 2))


def try_briefly(context: TuningContext, number: int, inputs: StageInputs, best: BestModel, tried: int) -> Trial:
    """Train a stage for half of its epochs, on half of the folds, and see whether a clear gain is in reach.

    It trains on plain images: that only makes over-confident, which the comparison forgives, and augmented views would
    have to pass through the frozen groups first, which costs more than training the others.

    Args:
        context: shared by all stages.
        number: of the training, from 0.
        inputs: of the stage.
        best: the model that the stage starts from.
        tried: number of stages that compete.
    """
    started = time.monotonic()
    complete, brief = inputs.stage, inputs.briefly()
    stage = brief.stage
    folds = inputs.folds(context, best)
    images = sum(len(fold.held_out) for fold in folds)
    several = trial_folds(context) if context.images.folds else 0
    if inputs.plain is not None:
        parts = zip(folds[:several], context.images.folds, strict=False)
        folds = [replace(fold, train=inputs.plain.subset(rows)) for fold, (rows, _) in parts]
    else:
        folds = [replace(folds[0], train=_sample(context, stage))]
    report = held_out_reporter(stage, "trial of stage", number, several, context.log)
    settings = replace(context.settings, views=1)
    fitted = cross_fit(folds, stage, settings, report, context.checkpoints.one(f"{number}-trial"))
    context.budget.spend(_passes(brief, stage, [len(fold.train) for fold in folds]))
    found = fitted.held_out.compare(fitted.before, fitted.after)
    promising = found.on_the_way(images, tried)
    reason = f"not on the way to a clear gain after {stage.epochs} epochs; {found.describe(tried)}"
    record = _record(context, complete, fitted, found, Verdict(False, reason), time.monotonic() - started)
    return Trial(inputs, record.model_copy(update={"trial": True}), found, promising)


def train_stage(
    context: TuningContext, number: int, inputs: StageInputs, best: BestModel, tried: int
) -> tuple[StageRecord, BestModel]:
    """Return the record of a complete stage and the best model after it: the given one, unless the stage is kept.

    Args:
        context: shared by all stages.
        number: of the training, from 0.
        inputs: of the stage.
        best: the model that the stage starts from.
        tried: number of stages of which this one looked best.
    """
    started = time.monotonic()
    stage, requested = inputs.stage, context.plan.requested
    folds = inputs.folds(context, best)
    report = held_out_reporter(stage, "stage", number, len(context.images.folds), context.log)
    fitted = cross_fit(folds, stage, context.settings, report, context.checkpoints.one(f"{number}-folds"))
    context.budget.spend(_passes(inputs, stage, [len(fold.train) for fold in folds]))
    if context.plan.wise_ft:
        fitted = at_best_share(folds, fitted, stage)
    comparison = fitted.held_out.compare(fitted.before, fitted.after)
    with_head = fitted.held_out.compare(best.head, fitted.after)
    choices = tried * fitted.choices
    verdict = held_out_verdict(comparison, with_head, context.evidence, requested=requested, tried=choices)
    found = best
    if verdict.kept:
        found = _kept(context, number, inputs, best, fitted)
    if verdict.kept and inputs.plain is not None and len(inputs.val):
        verdict = _checked(inputs, best, found, verdict, requested=requested)
    record = _record(context, stage, fitted, comparison, verdict, time.monotonic() - started)
    return record, found if verdict.kept else best


def _kept(context: TuningContext, number: int, inputs: StageInputs, best: BestModel, fitted: CrossFitted) -> BestModel:
    """Return the model after a stage that passed."""
    held_out, after = fitted.held_out, fitted.after
    temperature = held_out.task.fit_temperature(after, held_out.targets)
    if inputs.plain is None:
        # Each image at a temperature that was fitted on others.
        unseen = cross_calibrated(held_out.task, after, held_out.targets, held_out.groups) * np.float32(temperature)
        return BestModel(fitted.classifiers[0], fitted.classifiers, (after,), best.head, temperature, unseen)
    classifier = _fit_all(context, number, inputs, best, fitted)
    ends = np.cumsum([len(part) for part in best.before])[:-1]
    val_logits = predict(classifier, inputs.val) if len(inputs.val) else None
    before = tuple(np.split(after, ends))
    return BestModel(classifier, fitted.classifiers, before, best.head, temperature, val_logits)


def _checked(inputs: StageInputs, best: BestModel, found: BestModel, verdict: Verdict, *, requested: bool) -> Verdict:
    """Return the verdict after the validation images have been heard."""
    before = predict(best.classifier, inputs.val) if best.val_logits is None else best.val_logits
    assert found.val_logits is not None
    held_out = HeldOut(inputs.val.task, inputs.val.targets, inputs.val.groups)
    return validation_verdict(held_out.compare(before, found.val_logits), verdict, requested=requested)


def _fit_all(
    context: TuningContext, number: int, inputs: StageInputs, best: BestModel, fitted: CrossFitted
) -> Classifier:
    """Train on all training images, to the share that was best on the folds."""
    stage = inputs.stage
    report = full_fit_reporter(f"stage {stage.name} on all training images", stage.epochs)
    checkpoint = context.checkpoints.one(f"{number}-all")
    end = train_epochs(best.classifier, stage, inputs.train, context.settings, stage.epochs, report, checkpoint)
    context.budget.spend(_passes(inputs, stage, [len(inputs.train)]))
    return interpolated(best.classifier, end, stage, fitted.share)


def trial_folds(context: TuningContext) -> int:
    """Return the number of folds of a trial: half of them, or the training and validation images as one."""
    return max(1, (len(context.images.folds) + 1) // 2)


def trial_images(context: TuningContext) -> int:
    """Return the number of images of all trainings of a trial, at most."""
    train = len(context.images.train.plain)
    parts = [len(rows) for rows, _ in context.images.folds] or [train]
    return sum(parts[: trial_folds(context)]) if context.images.folds else _trial_size(train)


def held_out_images(context: TuningContext) -> int:
    """Return the number of images that judge a complete stage."""
    return sum(len(rows) for _, rows in context.images.folds) or len(context.images.val.plain)


def trained_images(context: TuningContext) -> int:
    """Return the number of images of all trainings of a stage that is kept: folds, all images, refit."""
    train, val = len(context.images.train.plain), len(context.images.val.plain)
    folds = [len(rows) for rows, _ in context.images.folds]
    return (sum(folds) if folds else 0) + train + (train + val if context.plan.refit else 0)


def _passes(inputs: StageInputs, stage: Stage, trained: Sequence[int]) -> float:
    return inputs.cost.passes(stage.epochs, max(trained), sum(trained))


def _sample(context: TuningContext, stage: Stage) -> LabelledImages:
    """Return the training images of a trial without folds; the others do not even pass through the frozen groups."""
    views = context.images.train.plain
    strata = views.task.strata(views.targets)
    chosen = sample(strata, views.groups, _trial_size(len(views)), f"{context.settings.seed} trial")
    return stage_inputs(context.start.classifier, stage, views.subset(chosen))


def _trial_size(images: int) -> int:
    return min(images, MOST_IMAGES, max(FEWEST_IMAGES, images // 4))


def _record(
    context: TuningContext, stage: Stage, fitted: CrossFitted, found: Comparison, verdict: Verdict, seconds: float
) -> StageRecord:
    images, run = fitted.held_out, len(fitted.train_loss)
    return StageRecord(
        name=stage.name,
        groups=stage.groups,
        epochs=run,
        planned_epochs=stage.epochs,
        evidence=context.evidence,
        start_accuracy=float(correct(images.task, fitted.before, images.targets).mean()),
        start_loss=found.loss_before,
        train_loss=fitted.train_loss,
        held_out_loss=fitted.held_out_loss,
        share=fitted.share,
        accuracy=float(correct(images.task, fitted.after, images.targets).mean()),
        log_loss=found.loss_after,
        gain=found.gain,
        error=found.error,
        kept=verdict.kept,
        reason=verdict.reason,
        best_epoch=run,
        seconds=round(seconds, 3),
    )
