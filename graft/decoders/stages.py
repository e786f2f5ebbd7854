"""The step `fine_tune` for task segment: staged unfreezing from the fitted decoder, as long as it clearly helps.

A stage trains the decoder and the upper groups of the backbone on augmented photos. Validation photos judge it: it is
kept only if their mean Dice coefficient rises by more than chance explains, photo by photo, and else rolled back. So
the result is never worse than the decoder on frozen features, as far as the evidence goes.
"""

import copy
import json
import math
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from graft.backbones.backbone import Backbone
from graft.backbones.weights import tensors_digest
from graft.core.errors import ModelError, ParamsError
from graft.core.progress import progress
from graft.decoders.augmented import make_views, view
from graft.decoders.decoder import enlarged
from graft.decoders.mask_bundle import MaskBundle, MaskNetwork, MaskStage
from graft.decoders.objective import class_weights, mask_loss
from graft.decoders.training import FINER, at_side
from graft.finetune.score_verdict import judge_scores
from graft.imaging.letterbox import letterbox, letterbox_mask
from graft.masks.dataset import MaskDataset
from graft.masks.scores import object_mean, overlap
from graft.params.fine_tune import FineTuneParams
from graft.runs.run_log import Log
from graft.runs.step import Metrics
from graft.tasks.pixels import IGNORED, refuse_others
from graft.training.checkpoints import Checkpoint, Checkpoints
from graft.training.epoch_state import EpochState

USED_PARAMS = (
    *("enabled", "strategy", "depth", "epochs", "lr", "layer_decay", "weight_decay", "augment", "batch_size", "seed"),
    "flip",
)
EPOCHS, LEARNING_RATE, BATCH = 6, 3e-4, 8
QUARTERS = 4
MOST_STAGES = 2
LEAST_VALIDATION = 8
Rows = npt.NDArray[np.int64]


def fine_tune_masks(dataset_folder: Path, head: Path, model: Path, params: FineTuneParams, log: Log) -> Metrics:
    """Train upper groups in stages; each is kept only if it helps on the validation photos."""
    dataset, bundle = MaskDataset.read(dataset_folder, "segment"), MaskBundle.load(head)
    refuse_others("fine_tune", params, USED_PARAMS, "segment")
    stages, untried = plan(bundle.spec.backbone.groups, dataset, params)
    if stages:
        bundle = _run(dataset, bundle, stages, params, log)
    bundle = MaskBundle(bundle.spec.model_copy(update={"untried": untried}), bundle.network)
    bundle.save(model)
    spec = bundle.spec
    log.params({"decided": {"trained_groups": ",".join(spec.trained_groups), "temperature": spec.temperature}})
    return {
        "strategy": params.strategy if spec.stages else "frozen",
        "depth": spec.backbone.depth,
        "untried": untried,
        "stages": [stage.model_dump(mode="json") for stage in spec.stages],
        "trained_groups": list(spec.trained_groups),
        "temperature": round(spec.temperature, 4),
        "refit": False,
    }


def plan(groups: tuple[str, ...], dataset: MaskDataset, params: FineTuneParams) -> tuple[list[tuple[str, ...]], str]:
    """Return the groups of each stage, and why none is tried.

    Raises:
        ParamsError: for a strategy or depth that tasks about pixels do not have.
    """
    if params.strategy == "surgical" or params.augment == "custom":
        name = "strategy=surgical" if params.strategy == "surgical" else "augment=custom"
        raise ParamsError(f"fine_tune.{name}: task {dataset.task.kind} has no such choice")
    if params.depth not in ("auto", *groups):
        raise ParamsError(f"fine_tune.depth={params.depth!r}: expected auto or a reused group: {', '.join(groups)}")
    if not params.enabled:
        return [], "fine_tune.enabled is false"
    photos, least = len(dataset.rows("val")), LEAST_VALIDATION if params.strategy == "staged" else 1
    if photos < least:
        return [], f"{photos} validation photos cannot judge a stage (at least {least})"
    if params.strategy == "all":
        return [groups], ""
    if params.depth != "auto":
        return [groups[groups.index(params.depth) :]], ""
    step = math.ceil(len(groups) / QUARTERS)
    starts = [len(groups) - step * (number + 1) for number in range(MOST_STAGES)]
    return [tuple(groups[start:]) for start in starts if start > 0], ""


def _run(
    dataset: MaskDataset,
    bundle: MaskBundle,
    stages: Sequence[tuple[str, ...]],
    params: FineTuneParams,
    log: Log,
) -> MaskBundle:
    squares = _Squares.of(dataset, bundle, ("train", "val"))
    train, val = dataset.rows("train"), dataset.rows("val")
    checkpoints = Checkpoints.of(
        {
            "data": dataset.spec.digest,
            "model": tensors_digest(bundle.network.state_dict()),
            "params": json.loads(params.model_dump_json()),
            "task": "segment",
        }
    )
    best = copy.deepcopy(bundle.network)
    before = _dice(best, squares, val, bundle)
    found: list[MaskStage] = []
    trained: tuple[str, ...] = ()
    for groups in stages:
        started = time.monotonic()
        network = copy.deepcopy(best)
        losses = _train(network, groups, squares, train, bundle, params, checkpoints.one(groups[0]))
        after = _dice(network, squares, val, bundle)
        gain, error, kept, reason = judge_scores(
            "Dice", before, after, dataset.groups[val].astype(str), params.strategy
        )
        print(f"fine_tune: {groups[0]}: {reason}", file=sys.stderr, flush=True)
        log.metric(f"stage_{groups[0]}_held_out_dice", float(after.mean()))
        found.append(
            MaskStage(
                name=groups[0],
                groups=groups,
                epochs=len(losses),
                start_dice=float(before.mean()),
                dice=float(after.mean()),
                gain=gain,
                error=error,
                train_loss=tuple(losses),
                kept=kept,
                reason=reason,
                seconds=round(time.monotonic() - started, 1),
            )
        )
        if not kept:
            break
        best, before, trained = network, after, groups
    checkpoints.clear()
    spec = bundle.spec.model_copy(update={"stages": tuple(found), "trained_groups": trained})
    best.trained = frozenset()
    return MaskBundle(spec, best.eval())


class _Squares:
    """The photos and masks of some splits in their squares, in memory as 8 bits a value."""

    def __init__(self, pixels: dict[int, torch.Tensor], masks: dict[int, torch.Tensor]) -> None:
        self.pixels = pixels
        self.masks = masks

    @classmethod
    def of(cls, dataset: MaskDataset, bundle: MaskBundle, splits: Sequence[str]) -> "_Squares":
        rows = [row for split in splits for row in dataset.rows(split).tolist()]  # type: ignore[arg-type]
        transform = bundle.transform
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda row: letterbox(dataset.photos[row], transform), rows))
        masks = {
            row: torch.from_numpy(letterbox_mask(dataset.mask(row), box, transform.size, IGNORED))
            for row, (_, box) in zip(rows, found, strict=True)
        }
        return cls({row: square for row, (square, _) in zip(rows, found, strict=True)}, masks)


def _train(
    network: MaskNetwork,
    groups: tuple[str, ...],
    squares: _Squares,
    rows: Rows,
    bundle: MaskBundle,
    params: FineTuneParams,
    checkpoint: Checkpoint | None,
) -> list[float]:
    """Train the decoder and some groups in place; return the mean loss of every epoch."""
    epochs = EPOCHS if params.epochs == "auto" else params.epochs
    rate = LEARNING_RATE if params.lr == "auto" else params.lr
    size = min(params.batch_size, BATCH)
    views = make_views("light" if params.augment == "auto" else params.augment)
    masks = np.stack([squares.masks[int(row)].numpy() for row in rows])
    weights = class_weights(masks, len(bundle.spec.labels), bundle.spec.class_weight)
    network.trained = frozenset(groups)
    for name, group in zip(network.backbone.spec.groups, network.backbone.groups, strict=True):
        group.requires_grad_(name in network.trained)
    network.decoder.requires_grad_(True)  # an earlier stage has frozen it
    by_depth = rates(network.decoder, network.backbone, groups, rate, params.layer_decay)
    optimiser = torch.optim.AdamW(by_depth, weight_decay=params.weight_decay)
    steps = math.ceil(len(rows) / size)
    top = [group["lr"] for group in optimiser.param_groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, top, total_steps=max(2, steps * epochs))
    state = EpochState(network, optimiser, schedule)
    losses = state.resume(checkpoint)
    for epoch in range(len(losses), epochs):
        network.train()
        order = np.random.default_rng([params.seed, epoch]).permutation(rows)
        total = 0.0
        for batch in progress(np.array_split(order, steps), f"fine_tune epoch {epoch + 1} of {epochs}", unit="batches"):
            pairs = [
                view(squares.pixels[int(row)], squares.masks[int(row)], views, (params.seed, epoch, int(row)))
                for row in batch
            ]
            logits = network(bundle.transform.normalise(torch.stack([pixels for pixels, _ in pairs])))
            side = FINER * logits.shape[-1]
            target = at_side(torch.stack([mask for _, mask in pairs]).numpy(), side).astype(np.int64)
            loss = mask_loss(enlarged(logits, side), torch.from_numpy(target), weights)
            if not torch.isfinite(loss):
                raise ModelError(f"fine_tune: the loss is {loss.item()}; lower fine_tune.lr")
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += loss.item() * len(batch)
        losses.append(total / len(rows))
        if checkpoint:
            checkpoint.write(lambda: state.tensors(losses))
    network.requires_grad_(False)
    network.eval()
    return losses


def rates(
    head: nn.Module, backbone: Backbone, groups: Sequence[str], rate: float, decay: float
) -> list[dict[str, object]]:
    """Return the optimiser's groups: the head and the top group at the full rate, lower groups slower."""
    modules = dict(zip(backbone.spec.groups, backbone.groups, strict=True))
    found: list[dict[str, object]] = [{"params": list(head.parameters()), "lr": rate}]
    for depth, name in enumerate(reversed(groups)):
        parameters = list(modules[name].parameters())
        if parameters:
            found.append({"params": parameters, "lr": rate * decay**depth})
    return found


def _dice(network: MaskNetwork, squares: _Squares, rows: Rows, bundle: MaskBundle) -> npt.NDArray[np.float64]:
    """Return the mean Dice coefficient of the objects of every photo, in its square, (n,)."""
    classes, size = len(bundle.spec.labels), bundle.transform.size
    found = []
    for batch in np.array_split(rows, math.ceil(len(rows) / BATCH)):
        with torch.inference_mode():
            logits = network(bundle.transform.normalise(torch.stack([squares.pixels[int(row)] for row in batch])))
            chosen = enlarged(logits, size).argmax(1).numpy().astype(np.uint8)
        for row, mask in zip(batch, chosen, strict=True):
            found.append(object_mean(overlap(squares.masks[int(row)].numpy(), mask, classes).dice))
    return np.array(found)
