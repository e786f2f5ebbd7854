"""Staged unfreezing: from a trained head downwards, a stage at a time, each kept only if held-out images say it helps.

Fine-tuning starts from the trained head, never from a random one, so that the features are not torn by a head that does
not know yet what it wants (LP-FT, Kumar et al. 2022). On near domains it often hurts: the result is never less
accurate on validation than the head it started from, and its log loss there no worse by more than a standard error.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from graft.backbones.weights import tensors_digest
from graft.core.source_code import source_digest
from graft.data.dataset import ImageDataset
from graft.finetune.checkpoints import Checkpoints
from graft.finetune.cross_fitting import Fold, cross_fit, train_through
from graft.finetune.distributed import present
from graft.finetune.refit import Split, head_alone, refit
from graft.finetune.stage_inputs import Direct, Pictures, inputs
from graft.finetune.stage_plan import Stage, StagePlan, is_far, make_plan
from graft.finetune.stage_selection import judge, veto
from graft.finetune.surgical import relative_gradient_norms
from graft.finetune.trainable_state import changed
from graft.finetune.trainer import Ints, Labelled, Logits, Settings, predict, read_features
from graft.finetune.wise_ft import best_share, blended
from graft.heads.depth_selection import IMBALANCE
from graft.heads.linear_probe import make_folds
from graft.imaging.augmentation import augmentation
from graft.models.bundle import ModelBundle
from graft.models.bundle_spec import StageRecord
from graft.models.classifier import Classifier
from graft.models.fit_abstention import with_abstention
from graft.models.fit_head import refit_head
from graft.runs.params import FineTuneParams
from graft.runs.run_log import Log
from graft.stats.temperature_scaling import fit_temperature
from graft.tasks.single_label import SingleLabel

_CODE = (
    *(
        "backbones/activation_cache",
        "imaging/augmentation",
        "core/row_blocks",
        "finetune/checkpoints",
        "heads/cosine",
        "finetune/cross_fitting",
        "finetune/distributed",
        "finetune/trainer",
        "heads/protocols",
        "models/classifier",
    ),
    *("heads", "mlp", "moving", "plan", "probe", "refit", "scaling", "shared_norm", "solver", "stage_inputs", "staged"),
    *("training", "transform", "wise"),
)


@dataclass(frozen=True)
class Job:
    """What the stages of one fine-tuning share."""

    bundle: ModelBundle
    params: FineTuneParams
    plan: StagePlan
    settings: Settings
    train: Pictures
    """In augmented views."""
    plain: Pictures
    """The same as they are."""
    val: Pictures
    augmented_val: Pictures
    folds: list[tuple[Ints, Ints]]
    """Positions to train on and to hold out; none where the validation images judge."""
    checkpoints: Checkpoints
    log: Log


@dataclass(frozen=True)
class Tried:
    """What became of a stage."""

    record: StageRecord
    classifier: Classifier
    """The best model from now on."""
    folds: tuple[Classifier, ...]
    """That of every fold from now on."""
    val_logits: Logits
    """Of `classifier`."""


def fine_tune(dataset: ImageDataset, bundle: ModelBundle, params: FineTuneParams, log: Log) -> ModelBundle:
    """Return the bundle after the stages that helped; the one given, if none did or none was asked for.

    Killed and called again, it goes on from the last epoch that was kept, bit by bit as if it had not been.

    Of several processes that train together (see `distributed`) each calls this and takes the same decisions; what the
    first one returns is whole, and the others' is to be thrown away.
    """
    if not len(dataset.indices("val")) or not (params.enabled or params.refit):
        return bundle
    job = _job(dataset, bundle, params, log)
    log.params(
        {
            "plan": {
                "stages": [stage.name for stage in job.plan.stages],
                "augment": job.plan.augment,
                "views": job.plan.views,
                "folds": len(job.folds),
            }
        }
    )
    found, stages = _through_stages(job)
    if job.plan.refit:
        val = Split(job.val, job.augmented_val)
        classifier = refit(bundle, stages, Split(job.plain, job.train), val, job.settings, job.checkpoints, _say)
        spec = found.spec.model_copy(update={"refit": True})
        found = replace(found, spec=spec, classifier=classifier.eval(), validation=_val_logits(job, found, stages))
    # Other features than the head's: what is foreign to them and which answers are plausible has to be learnt anew.
    found = with_abstention(found, dataset) if found.spec.trained_groups and present().is_first else found
    job.checkpoints.clear()
    return found


def _through_stages(job: Job) -> tuple[ModelBundle, list[tuple[Stage, StageRecord]]]:
    """Return the model after the stages that helped, and what became of each that was tried."""
    bundle = job.bundle
    best: Classifier = bundle.classifier
    folds: tuple[Classifier, ...] = ()
    temperature = bundle.spec.temperature
    stages: list[tuple[Stage, StageRecord]] = []
    for number, stage in enumerate(job.plan.stages if job.params.enabled else ()):
        tried = _try(job, number, stage, best, folds)
        stages.append((stage, tried.record))
        _say(f"stage {stage.name}: {tried.record.reason}")
        if not tried.record.kept:
            if job.plan.persistent:
                continue
            break
        best, folds = tried.classifier, tried.folds
        temperature = fit_temperature(tried.val_logits.astype(np.float64), job.val.targets)
    spec = bundle.spec.model_copy(
        update={
            "stages": tuple(record for _, record in stages),
            "trained_groups": changed(bundle.spec.backbone.groups, bundle.classifier, best),
            "temperature": temperature,
        }
    )
    return replace(bundle, spec=spec, classifier=best.eval()), stages


def _val_logits(job: Job, found: ModelBundle, stages: Sequence[tuple[Stage, StageRecord]]) -> Logits:
    """Return what a model says of the validation images."""
    kept = [stage for stage, record in stages if record.kept]
    stage = kept[-1] if kept else stages[0][0] if stages else head_alone(found.classifier)
    return predict(found.classifier, inputs(found.classifier, stage, job.val, 1))


def _job(dataset: ImageDataset, bundle: ModelBundle, params: FineTuneParams, log: Log) -> Job:
    pretrained = bundle.spec.backbone.weights.source != "none"
    plain = Pictures(dataset, "train", bundle.backbone, None, params.seed)
    plan = make_plan(
        bundle.spec.backbone.groups,
        len(plain.targets),
        params,
        best=_best_group(bundle, plain, params),
        pretrained=pretrained,
        far=bool(bundle.spec.curve) and is_far([point.log_loss for point in bundle.spec.curve]),
    )
    description = {
        "model": tensors_digest(bundle.classifier.state_dict()),
        "images": dataset.spec.digest,
        "params": params.model_dump(mode="json"),
        "torch": torch.__version__,
        "code": source_digest(__name__),
    }
    ranges = augmentation(plan.augment, params.flip, params.custom)
    return Job(
        bundle=bundle,
        params=params,
        plan=plan,
        settings=_settings(params, plan, plain.targets, len(bundle.spec.labels), pretrained=pretrained),
        train=Pictures(dataset, "train", bundle.backbone, ranges, params.seed),
        plain=plain,
        val=Pictures(dataset, "val", bundle.backbone, None, params.seed),
        augmented_val=Pictures(dataset, "val", bundle.backbone, ranges, params.seed),
        folds=make_folds(plain.targets, plain.groups, plan.folds, params.seed) if plan.folds else [],
        checkpoints=Checkpoints.of(description),
        log=log,
    )


def _best_group(bundle: ModelBundle, plain: Pictures, params: FineTuneParams) -> str:
    """Return the group where training starts; see `make_plan`."""
    if params.strategy == "surgical":
        norms = relative_gradient_norms(bundle.classifier, Labelled.all(Direct(plain), plain.targets))
        _say("gradient relative to weights: " + ", ".join(f"{name} {norm:.2g}" for name, norm in norms.items()))
        return max(norms, key=norms.__getitem__)
    points = [point for point in bundle.spec.curve if point.tap in bundle.spec.backbone.groups]
    return min(points, key=lambda point: point.log_loss).tap


def _settings(params: FineTuneParams, plan: StagePlan, targets: Ints, n_classes: int, *, pretrained: bool) -> Settings:
    return Settings(
        batch_size=params.batch_size,
        views=plan.views,
        layer_decay=params.layer_decay if pretrained else 1.0,
        weight_decay=params.weight_decay,
        l2_sp=params.l2_sp if pretrained else 0.0,
        label_smoothing=params.label_smoothing,
        patience=params.patience if pretrained else 4 * params.patience,
        train_norms=not pretrained,
        class_weight=SingleLabel(labels=tuple(map(str, range(n_classes)))).label_weights(targets)
        if _imbalanced(targets)
        else None,
        seed=params.seed,
    )


def _imbalanced(targets: Ints) -> bool:
    counts = np.bincount(targets)
    return bool(counts.max() > IMBALANCE * counts[counts > 0].min())


def _try(job: Job, number: int, stage: Stage, best: Classifier, folds: Sequence[Classifier]) -> Tried:
    started = time.monotonic()
    train, val = (inputs(best, stage, pictures, job.plan.views) for pictures in (job.train, job.val))
    before = predict(best, val)
    if job.folds:
        plain = inputs(best, stage, job.plain, 1)
        folds = folds or _fold_heads(job, best, plain)
        jury = [
            Fold(start, train.some(rows), plain.some(out)) for start, (rows, out) in zip(folds, job.folds, strict=True)
        ]
    else:
        jury = [Fold(best, train, val)]
    fitted = cross_fit(jury, stage, job.settings, _reporter(job, stage, number), job.checkpoints.one(f"{number}-folds"))
    share, fitted = best_share(jury, fitted, stage) if job.params.wise_ft else (1.0, fitted)
    where = "held-out training images" if job.folds else "validation images"
    kept, reason = judge(fitted, where, asked=job.params.strategy != "staged")
    found, logits = fitted.classifiers[0], fitted.after
    if kept and job.folds:
        found = train_through(
            best,
            stage,
            train,
            job.settings,
            fitted.best_epoch,
            lambda epoch, loss: _say(
                f"stage {stage.name} on all training images: epoch {epoch}/{fitted.best_epoch}, loss {loss:.3f}"
            ),
            job.checkpoints.one(f"{number}-all"),
        )
        found = blended(best, found, stage, share) if share < 1 else found
        logits = predict(found, val)
        kept, reason = veto(before, logits, val.targets, reason)
    record = StageRecord(
        name=stage.name,
        groups=stage.groups,
        epochs=len(fitted.held_out_loss),
        evidence="cross_validation" if job.folds else "validation",
        start_accuracy=float((fitted.before.argmax(1) == fitted.targets).mean()),
        start_loss=fitted.start_loss,
        train_loss=fitted.train_loss,
        held_out_loss=fitted.held_out_loss,
        share=share,
        accuracy=float((fitted.after.argmax(1) == fitted.targets).mean()),
        log_loss=fitted.loss,
        kept=kept,
        reason=reason,
        best_epoch=fitted.best_epoch,
        seconds=round(time.monotonic() - started, 3),
    )
    if not kept:
        return Tried(record, best, (), before)
    return Tried(record, found, fitted.classifiers if job.folds else (), logits)


def _fold_heads(job: Job, best: Classifier, plain: Labelled) -> list[Classifier]:
    """Return the frozen backbone with a head for every fold that has not seen the images held out there."""
    features = read_features(best, plain)
    weighted = job.settings.class_weight is not None
    return [
        Classifier(best.backbone, refit_head(job.bundle, features[rows], plain.targets[rows], weighted=weighted)).eval()
        for rows, _ in job.folds
    ]


def _reporter(job: Job, stage: Stage, number: int) -> Callable[[int, float, float], None]:
    trained = f", {len(job.folds)} folds" if job.folds else ""

    def report(epoch: int, train_loss: float, held_out_loss: float) -> None:
        job.log.metric("train_loss", train_loss, step=number * 1000 + epoch)
        job.log.metric("held_out_loss", held_out_loss, step=number * 1000 + epoch)
        _say(
            f"stage {stage.name}: epoch {epoch}/{stage.epochs}{trained}, loss {train_loss:.3f}, "
            f"held out {held_out_loss:.3f}"
        )

    return report


def _say(text: str) -> None:
    if present().is_first:
        print(f"fine_tune: {text}", file=sys.stderr, flush=True)
