"""The step `train_head` for task instances: the heads learn from cached maps, and validation photos choose a score."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from graft.backbones.backbone import load_backbone
from graft.core.errors import ParamsError
from graft.core.progress import progress
from graft.dense.map_choice import score_maps
from graft.detectors.answers import objects_of
from graft.detectors.coco_start import COCO_RATE, coco_heads, take_over
from graft.detectors.detector import Detector, Heads, new_heads
from graft.detectors.detector_bundle import DetectorBundle, DetectorSpec
from graft.detectors.photo_maps import PhotoMaps
from graft.detectors.targets import target_of
from graft.detectors.training import LEARNING_RATE, Schedule, epochs_for, train
from graft.objects.average_precision import best_score, match, scores
from graft.objects.instance import Instance
from graft.params.train_head import TrainHeadParams
from graft.runs.run_log import Log
from graft.runs.step import Metrics
from graft.tasks.pixels import refuse_others
from graft.training.checkpoints import Checkpoint, Checkpoints

USED_PARAMS = ("reuse_depth", "folds", "memory", "exam", "seed")
STATISTICS_PHOTOS = 64
Rows = npt.NDArray[np.int64]


def train_detector(features: Path, head: Path, params: TrainHeadParams, log: Log) -> Metrics:
    """Fit proposals and predictors to the maps of the frozen backbone."""
    store = PhotoMaps.read(features)
    refuse_others("train_head", params, USED_PARAMS, store.spec.task.kind)
    levels = levels_up_to(store, params.reuse_depth)
    if coco_heads(store.path) is not None and len(levels) < len(store.spec.levels):
        raise ParamsError(
            f"train_head.reuse_depth={params.reuse_depth!r}: heads learnt on COCO read all maps; use last"
        )
    rows, classes = store.rows("train"), len(store.spec.task.labels)
    curve = score_maps(store, rows, classes + 1, params.folds, params.seed)
    settings = Schedule(epochs_for(len(rows)), params.seed)
    checkpoints = Checkpoints.of(
        {
            "features": store.spec.fingerprint,
            "data": store.spec.dataset_digest,
            "size": store.spec.transform.size,
            "params": json.loads(params.model_dump_json()),
            "task": "instances",
        }
    )
    heads, losses = fit_heads(store, store.objects, levels, rows, settings, checkpoints.one("heads"))
    backbone = load_backbone(store.backbone_folder).truncated(store.spec.levels[levels[-1]].group)
    used = tuple(store.spec.levels[level].group for level in levels)
    spec = DetectorSpec(
        task=store.spec.task,
        labels=store.spec.task.labels,
        backbone=backbone.spec,
        source_groups=tuple(store.spec.backbone_content["groups"]),
        levels=used,
        channels=heads.channels,
        dataset_digest=store.spec.dataset_digest,
        epochs=settings.epochs,
        train_loss=tuple(losses),
        seed=params.seed,
        curve=tuple(curve),
        coco=coco_heads(store.path) is not None,
    )
    val = store.rows("val")
    truth = [store.objects[int(row)] for row in val]
    answers = cached_answers(store, heads, levels, val)
    matches = match(truth, answers, classes)
    chosen = best_score(matches) if len(val) else None
    if chosen is not None:
        spec = spec.model_copy(update={"score": chosen, "score_photos": len(val)})
    DetectorBundle(spec, Detector(backbone, used, heads)).save(head)
    checkpoints.clear()
    found = scores(matches) if len(val) else {}
    for name, value in found.items():
        if value == value:
            log.metric(f"val_mask_{name}", value)
    for number, point in enumerate(curve):
        log.metric("reuse_depth_accuracy", point.accuracy, step=number)
    for epoch, loss in enumerate(losses):
        log.metric("train_loss", loss, step=epoch)
    log.params({"decided": {"depth": backbone.spec.depth, "taps": ",".join(used), "head": "mask_rcnn"}})
    told = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
    on = f"mask {told} on {len(val)} validation photos" if found else "no validation photos"
    print(
        f"train_head: Mask R-CNN on the maps of {', '.join(used)}; {on}; score {spec.score:.2f}",
        file=sys.stderr,
        flush=True,
    )
    return {
        "depth": backbone.spec.depth,
        "taps": list(used),
        "head": "mask_rcnn",
        "parameters": sum(parameter.numel() for parameter in heads.parameters()),
        "epochs": settings.epochs,
        "train_loss": losses,
        "score": round(spec.score, 4),
        "curve": [point.model_dump(mode="json") for point in curve],
        "cv": {},
        "val": {name: None if value != value else value for name, value in found.items()},
    }


def levels_up_to(store: PhotoMaps, depth: str) -> tuple[int, ...]:
    """Return the indices of the levels to read: all of them, or those up to a named group.

    Raises:
        ParamsError: for a name that is not the group of a level.
    """
    names = [level.group for level in store.spec.levels]
    if depth in ("auto", "last"):
        return tuple(range(len(names)))
    if depth not in names[1:]:
        raise ParamsError(f"train_head.reuse_depth={depth!r}: expected auto, last or {', '.join(names[1:])}")
    return tuple(range(names.index(depth) + 1))


def fit_heads(
    store: PhotoMaps,
    objects: Sequence[Sequence[Instance]],
    levels: Sequence[int],
    rows: Rows,
    settings: Schedule,
    checkpoint: Checkpoint | None = None,
) -> tuple[Heads, list[float]]:
    """Train heads on cached maps; return them and the loss of every epoch.

    Args:
        store: the maps.
        objects: of every photo, by row.
        levels: indices of those to read, the finest first.
        rows: the photos to learn from.
        settings: how long.
        checkpoint: where the state after each epoch is kept.
    """
    spec, start = store.spec, coco_heads(store.path)
    channels = [spec.levels[level].channels for level in levels]
    coco = start is not None
    heads = new_heads(channels, len(spec.task.labels), spec.transform.size, settings.seed, coco=coco)
    if start is None:
        heads.standardise(*statistics(store, levels, rows))
    else:
        take_over(heads, start)

    def loss_of(row: int, mirrored: bool) -> torch.Tensor:
        view = store.view(row, mirrored=mirrored)
        target = target_of(objects[row], view.fit, mirrored=mirrored)
        return heads.losses([view.maps[level] for level in levels], view.fit, target)

    parameters: list[dict[str, object]] = [
        {"params": list(heads.parameters()), "lr": COCO_RATE if coco else LEARNING_RATE}
    ]
    return heads, train(heads, parameters, rows, loss_of, settings, checkpoint)


def statistics(store: PhotoMaps, levels: Sequence[int], rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation of every channel of the maps, over some of the photos."""
    some = rows[np.unique(np.linspace(0, len(rows) - 1, STATISTICS_PHOTOS).astype(int))]
    totals = [torch.zeros(3, store.spec.levels[level].channels, dtype=torch.float64) for level in levels]
    for row in some:
        maps = store.view(int(row)).maps
        for total, level in zip(totals, levels, strict=True):
            values = maps[level][0].double().flatten(1)
            total += torch.stack([values.sum(1), values.square().sum(1), torch.full(values.shape[:1], values.shape[1])])
    means = [total[0] / total[2] for total in totals]
    spreads = [
        (total[1] / total[2] - mean.square()).clamp(min=0).sqrt() for total, mean in zip(totals, means, strict=True)
    ]
    return torch.cat(means).float(), torch.cat(spreads).float()


def cached_answers(store: PhotoMaps, heads: Heads, levels: Sequence[int], rows: Rows) -> list[tuple[Instance, ...]]:
    """Return the objects that heads see in the cached maps of some photos."""
    heads.eval()
    found = []
    for row in progress(rows, "detect", len(rows), unit="photos"):
        view = store.view(int(row))
        with torch.inference_mode():
            seen = heads.detect([view.maps[level] for level in levels], view.fit)
        found.append(objects_of(seen, view.fit))
    return found
