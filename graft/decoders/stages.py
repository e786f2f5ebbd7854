"""The step `fine_tune` for task segment: stages on augmented photos, judged by the Dice coefficient of each photo."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from graft.core.errors import ModelError
from graft.core.progress import progress
from graft.decoders.augmented import make_views, view
from graft.decoders.decoder import enlarged
from graft.decoders.mask_bundle import MaskBundle, MaskNetwork, MaskStage
from graft.decoders.objective import class_weights, mask_loss
from graft.decoders.training import FINER, at_side
from graft.dense.ahead import ahead
from graft.dense.stages import Measured, StageTrainer, fine_tune_bundle
from graft.imaging.letterbox import letterbox, letterbox_mask
from graft.masks.dataset import MaskDataset
from graft.masks.scores import object_mean, overlap
from graft.params.fine_tune import FineTuneParams
from graft.runs.run_log import Log
from graft.runs.step import Metrics
from graft.tasks.pixels import IGNORED, refuse_others
from graft.training.checkpoints import Checkpoint
from graft.training.epoch_state import EpochState

USED_PARAMS = (
    *("enabled", "strategy", "depth", "epochs", "lr", "layer_decay", "weight_decay", "augment", "batch_size", "seed"),
    "flip",
)
EPOCHS, LEARNING_RATE, BATCH = 6, 3e-4, 8
Rows = npt.NDArray[np.int64]


def fine_tune_masks(dataset_folder: Path, head: Path, model: Path, params: FineTuneParams, log: Log) -> Metrics:
    """Train upper groups in stages; each is kept only if it helps on the validation photos."""
    dataset, bundle = MaskDataset.read(dataset_folder, "segment"), MaskBundle.load(head)
    refuse_others("fine_tune", params, USED_PARAMS, "segment")
    make_trainer = partial(MaskTrainer, dataset, bundle, params)
    return fine_tune_bundle(bundle, dataset, make_trainer, "temperature", model, params, log)


class _Squares:
    """The photos and masks of some splits in their squares, in memory as 8 bits a value."""

    def __init__(self, pixels: dict[int, torch.Tensor], masks: dict[int, torch.Tensor]) -> None:
        self.pixels = pixels
        self.masks = masks

    @classmethod
    def of(cls, dataset: MaskDataset, bundle: MaskBundle, splits: Sequence[str]) -> "_Squares":
        rows = [row for split in splits for row in dataset.rows(split).tolist()]  # type: ignore[arg-type]
        transform = bundle.transform
        found = list(ahead(lambda row: letterbox(dataset.photos[row], transform), rows, 4 * BATCH))
        masks = {
            row: torch.from_numpy(letterbox_mask(dataset.mask(row), box, transform.size, IGNORED))
            for row, (_, box) in zip(rows, found, strict=True)
        }
        return cls({row: square for row, (square, _) in zip(rows, found, strict=True)}, masks)


class MaskTrainer(StageTrainer[MaskNetwork]):
    """Trains on augmented squares, image and mask together."""

    metric, stage = "Dice", MaskStage

    def __init__(self, dataset: MaskDataset, bundle: MaskBundle, params: FineTuneParams) -> None:
        self.bundle, self.params = bundle, params
        self.squares = _Squares.of(dataset, bundle, ("train", "val"))
        self.rows, self.val = dataset.rows("train"), dataset.rows("val")

    def measure(self, network: MaskNetwork) -> Measured:
        """Return the mean Dice coefficient of the objects of every validation photo, in its square."""
        bundle, squares, rows = self.bundle, self.squares, self.val
        classes, size = len(bundle.spec.labels), bundle.transform.size
        found = []
        for batch in np.array_split(rows, math.ceil(len(rows) / BATCH)):
            with torch.inference_mode():
                logits = network(bundle.transform.normalise(torch.stack([squares.pixels[int(row)] for row in batch])))
                chosen = enlarged(logits, size).argmax(1).numpy().astype(np.uint8)
            for row, mask in zip(batch, chosen, strict=True):
                found.append(object_mean(overlap(squares.masks[int(row)].numpy(), mask, classes).dice))
        return Measured(np.array(found), {})

    def train(self, network: MaskNetwork, groups: tuple[str, ...], checkpoint: Checkpoint | None) -> list[float]:
        """Train the decoder and some groups in place; return the mean loss of every epoch."""
        bundle, squares, params, rows = self.bundle, self.squares, self.params, self.rows
        epochs = EPOCHS if params.epochs == "auto" else params.epochs
        rate = LEARNING_RATE if params.lr == "auto" else params.lr
        size = min(params.batch_size, BATCH)
        views = make_views("light" if params.augment == "auto" else params.augment)
        masks = np.stack([squares.masks[int(row)].numpy() for row in rows])
        weights = class_weights(masks, len(bundle.spec.labels), bundle.spec.class_weight)
        by_depth = network.unfreeze(groups, rate, params.layer_decay)
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
            name = f"fine_tune epoch {epoch + 1} of {epochs}"
            for batch in progress(np.array_split(order, steps), name, unit="batches"):
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
        network.freeze()
        return losses
