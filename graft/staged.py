"""Staged unfreezing: from a trained head downwards, a stage at a time, each kept only if held-out images say it helps.

Fine-tuning starts from the trained head, never from a random one, so that the features are not torn by a head that does
not know yet what it wants (LP-FT, Kumar et al. 2022). On near domains it often hurts: the result is never worse on
validation than the head it started from.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from graft.activations import BoundaryCache, worth_caching
from graft.augment import Augmentation, augmentation, view_of
from graft.backbone import Backbone
from graft.bundle import BundleSpec, ModelBundle, StageRecord
from graft.calibration import fit_temperature
from graft.dataset import ImageDataset, Split
from graft.extraction import pixels_of
from graft.fit import Fitted, Ints, Labelled, Settings, changed, fit_stage, losses, mean_loss, predict
from graft.head import Classifier
from graft.judging import trusted
from graft.log import Log
from graft.params import FineTuneParams
from graft.plan import Stage, StagePlan, make_plan
from graft.probe import balanced_weights
from graft.reuse import paired

IMBALANCE = 1.5


class Pictures:
    """One split's pixels, in any view; the same for whoever asks, in whatever order."""

    def __init__(self, dataset: ImageDataset, split: Split, backbone: Backbone, ranges: Augmentation | None, seed: int):
        self.rows = dataset.indices(split)
        self.targets = dataset.targets()[self.rows]
        self.ids = dataset.table["id"].to_numpy()[self.rows].tolist()
        self.transform = backbone.spec.transform
        self.ranges, self.seed = ranges, seed
        self._pixels = pixels_of(self.transform, dataset)

    def pixels(self, position: int, view: int) -> torch.Tensor:
        """Return uint8 (3, S, S)."""
        plain = self._pixels(int(self.rows[position]))
        return plain if self.ranges is None else view_of(plain, self.ranges, self.seed, view, self.ids[position])


class Direct:
    """Inputs of a stage computed as they are needed: nothing is frozen, or caching would not pay."""

    after: str | None = None

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures

    def batch(self, positions: Ints, view: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return normalised images (b, 3, S, S)."""
        pixels = torch.stack([self.pictures.pixels(int(position), view) for position in positions])
        normal = self.pictures.transform.normalise(pixels)
        return normal.contiguous(memory_format=torch.channels_last), []


class Cached:
    """Inputs of a stage read from the activations after its last frozen group."""

    def __init__(self, cache: BoundaryCache, taps: tuple[str, ...]) -> None:
        self.cache = cache
        self.after: str | None = cache.after
        self.taps = [tap for tap in taps if tap in cache.widths]

    def batch(self, positions: Ints, view: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return boundary activations and the pooled features of the head's taps below."""
        return self.cache.batch(positions, view), self.cache.taps(positions, view, self.taps)


@dataclass(frozen=True)
class Judged:
    """A stage that was tried: what came of it, and whether validation is clearly better for it."""

    fitted: Fitted
    kept: bool
    reason: str


def fine_tune(dataset: ImageDataset, bundle: ModelBundle, params: FineTuneParams, log: Log) -> ModelBundle:
    """Return the bundle after the stages that helped; the one given, if none did or none was asked for."""
    spec = bundle.spec
    if not params.enabled or not len(dataset.indices("val")):
        return bundle
    pretrained = spec.backbone.weights.source != "none"
    train_images = len(dataset.indices("train"))
    best_group = min(
        (point for point in spec.curve if point.tap in spec.backbone.groups), key=lambda point: point.log_loss
    ).tap
    plan = make_plan(spec.backbone.groups, train_images, params, best=best_group, pretrained=pretrained)
    log.params(
        {"plan": {"stages": [stage.name for stage in plan.stages], "augment": plan.augment, "views": plan.views}}
    )
    ranges = augmentation(plan.augment, params.flip)
    train = Pictures(dataset, "train", bundle.backbone, ranges, params.seed)
    val = Pictures(dataset, "val", bundle.backbone, None, params.seed)
    settings = _settings(params, plan, train.targets, len(spec.labels), pretrained=pretrained)

    best, best_logits = bundle.classifier, None
    records: list[StageRecord] = []
    for stage in plan.stages:
        started = time.monotonic()
        inputs = {
            name: _inputs(best, stage, pictures, plan, params) for name, pictures in (("train", train), ("val", val))
        }
        if best_logits is None:
            best_logits = predict(best, inputs["val"])
        fitted = fit_stage(best, stage, inputs["train"], inputs["val"], settings, _reporter(stage, log, len(records)))
        judged = judge(best_logits, fitted, val.targets, asked=params.strategy != "staged")
        records.append(_record(stage, judged, val.targets, time.monotonic() - started))
        print(f"fine_tune: stage {stage.name}: {judged.reason}", file=sys.stderr, flush=True)
        if not judged.kept:
            break
        best, best_logits = fitted.classifier, fitted.val_logits
    assert best_logits is not None, "a plan has a stage"
    found = ModelBundle(
        _spec(spec, bundle.classifier, best, records, best_logits, val.targets), best.eval(), bundle.trust
    )
    # Other features than the head's: what is foreign to them and which answers are plausible has to be learnt anew.
    return trusted(found, dataset) if found.spec.trained_groups else found


def judge(before: npt.NDArray[np.float32], fitted: Fitted, targets: Ints, *, asked: bool) -> Judged:
    """Decide whether a stage is kept.

    Args:
        before: validation logits (n, C) of the best model so far.
        fitted: the stage's result.
        targets: validation classes (n,).
        asked: whether the user asked for just this stage: then it need only be no worse.
    """
    gain, error = paired(losses(before, targets), losses(fitted.val_logits, targets))
    hits = [int((logits.argmax(1) == targets).sum()) for logits in (before, fitted.val_logits)]
    said = (
        f"validation log loss {mean_loss(before, targets):.3f} -> {mean_loss(fitted.val_logits, targets):.3f} "
        f"(standard error of the change {error:.3f}), right {hits[0]} -> {hits[1]} of {len(targets)}"
    )
    needed = 0.0 if asked else error
    if fitted.best_epoch == 0:
        return Judged(fitted, False, f"rolled back: no epoch was better on validation; {said}")
    if gain <= needed or hits[1] < hits[0]:
        return Judged(fitted, False, f"rolled back: no clear gain; {said}")
    return Judged(fitted, True, f"kept; {said}")


def _inputs(best: Classifier, stage: Stage, pictures: Pictures, plan: StagePlan, params: FineTuneParams) -> Labelled:
    backbone = best.backbone
    frozen = backbone.spec.groups[: backbone.spec.index(stage.name)]
    views = plan.views if pictures.ranges else 1
    if not frozen or not worth_caching(backbone, frozen[-1], len(pictures.rows), views):
        return Labelled(Direct(pictures), pictures.targets)
    cache = BoundaryCache.open(
        backbone,
        frozen[-1],
        pictures.pixels,
        pictures.ids,
        views=views,
        augmentation=f"{pictures.ranges!r} seed {params.seed}" if pictures.ranges else "none",
    )
    return Labelled(Cached(cache, best.head.spec.taps), pictures.targets)


def _settings(params: FineTuneParams, plan: StagePlan, targets: Ints, n_classes: int, *, pretrained: bool) -> Settings:
    counts = np.bincount(targets, minlength=n_classes)
    imbalanced = counts.max() > IMBALANCE * max(1, counts[counts > 0].min())
    return Settings(
        batch_size=params.batch_size,
        views=plan.views,
        layer_decay=params.layer_decay if pretrained else 1.0,
        weight_decay=params.weight_decay,
        label_smoothing=params.label_smoothing,
        patience=params.patience if pretrained else 4 * params.patience,
        train_norms=not pretrained,
        class_weight=balanced_weights(targets, n_classes) if imbalanced else None,
        seed=params.seed,
    )


def _reporter(stage: Stage, log: Log, number: int) -> Callable[[int, float, float], None]:
    def report(epoch: int, train_loss: float, val_loss: float) -> None:
        log.metric("train_loss", train_loss, step=number * 1000 + epoch)
        log.metric("val_loss", val_loss, step=number * 1000 + epoch)
        print(
            f"fine_tune: stage {stage.name}: epoch {epoch}/{stage.epochs}, "
            f"loss {train_loss:.3f}, validation {val_loss:.3f}",
            file=sys.stderr,
            flush=True,
        )

    return report


def _record(stage: Stage, judged: Judged, targets: Ints, seconds: float) -> StageRecord:
    logits = judged.fitted.val_logits
    return StageRecord(
        name=stage.name,
        groups=stage.groups,
        epochs=len(judged.fitted.val_loss),
        train_loss=judged.fitted.train_loss,
        val_loss=judged.fitted.val_loss,
        accuracy=float((logits.argmax(1) == targets).mean()),
        log_loss=mean_loss(logits, targets),
        kept=judged.kept,
        reason=judged.reason,
        seconds=round(seconds, 3),
    )


def _spec(
    spec: BundleSpec,
    before: Classifier,
    after: Classifier,
    records: list[StageRecord],
    logits: npt.NDArray[np.float32],
    targets: Ints,
) -> BundleSpec:
    kept = any(record.kept for record in records)
    return spec.model_copy(
        update={
            "stages": tuple(records),
            "trained_groups": changed(spec.backbone.groups, before, after),
            "temperature": fit_temperature(logits.astype(np.float64), targets) if kept else spec.temperature,
        }
    )
