"""Fit a decoder to cached maps: some epochs, one learning-rate cycle, everything drawn from the seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from graft.core.errors import ModelError
from graft.core.progress import progress
from graft.decoders.decoder import Decoder, enlarged
from graft.decoders.dense_maps import MapStore
from graft.decoders.objective import class_weights, mask_loss

BATCH = 8
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-4
EPOCHS, LEAST_STEPS, MOST_EPOCHS = 12, 120, 40
FINER = 2
"""The loss is taken at this many times the finest map: four times as many pixels would cost more than they teach."""
STATISTICS_PHOTOS = 64
Rows = npt.NDArray[np.int64]
Masks = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class DecoderSettings:
    """How a decoder is trained."""

    epochs: int
    class_weight: str = "auto"
    seed: int = 0


def epochs_for(photos: int) -> int:
    """Return the number of epochs: few photos are seen more often, so that there are steps enough to learn."""
    steps = max(1, math.ceil(photos / BATCH))
    return max(EPOCHS, min(MOST_EPOCHS, math.ceil(LEAST_STEPS / steps)))


def maps_of(store: MapStore, levels: Sequence[int], rows: Rows) -> list[torch.Tensor]:
    """Return the maps of some photos at some levels, float32 (n, c, h, w) each."""
    return [torch.from_numpy(store.maps[level][rows].astype(np.float32)) for level in levels]


def new_decoder(store: MapStore, levels: Sequence[int], rows: Rows, classes: int, seed: int) -> Decoder:
    """Return a decoder with random weights, that standardises the maps as they are in these photos."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = Decoder([store.spec.levels[level].channels for level in levels], classes)
    some = rows[np.unique(np.linspace(0, len(rows) - 1, STATISTICS_PHOTOS).astype(int))]
    means, scales = [], []
    for found in maps_of(store, levels, some):
        means.append(found.mean((0, 2, 3)))
        scales.append(found.std((0, 2, 3)))
    decoder.standardise(torch.cat(means), torch.cat(scales))
    return decoder


def fit_decoder(
    store: MapStore,
    levels: Sequence[int],
    rows: Rows,
    settings: DecoderSettings,
    what: str = "train_head",
) -> Decoder:
    """Train a decoder on the maps and masks of some photos; the result is in eval mode.

    Args:
        store: the maps.
        levels: indices of those to read, the finest first.
        rows: the photos.
        settings: how.
        what: for the progress.

    Raises:
        ModelError: if the loss is no longer a number.
    """
    classes, side = len(store.spec.task.labels), FINER * store.spec.levels[levels[0]].side
    masks = at_side(store.masks(rows), side)
    weights = class_weights(masks, classes, settings.class_weight)
    decoder = new_decoder(store, levels, rows, classes, settings.seed).train()
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = math.ceil(len(rows) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, LEARNING_RATE, total_steps=max(2, steps * settings.epochs)
    )
    draws = np.random.default_rng(settings.seed)
    batches = [part for _ in range(settings.epochs) for part in np.array_split(draws.permutation(len(rows)), steps)]
    for batch in progress(batches, what, unit="batches"):
        logits = enlarged(decoder(maps_of(store, levels, rows[batch])), side)
        loss = mask_loss(logits, torch.from_numpy(masks[batch].astype(np.int64)), weights)
        if not torch.isfinite(loss):
            raise ModelError(f"the loss of the decoder is {loss.item()}: the masks or the maps hold something odd")
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return decoder.eval()


def at_side(masks: Masks, side: int) -> Masks:
    """Return masks (n, S, S) at another size, each pixel with the value of the nearest one, (n, side, side)."""
    at = ((np.arange(side) + 0.5) * masks.shape[1] / side).astype(np.int64)
    return masks[:, at[:, None], at]


def square_logits(store: MapStore, levels: Sequence[int], decoder: Decoder, rows: Rows) -> torch.Tensor:
    """Return the logits of some photos at the finest map's size, float32 (n, k, h, w)."""
    with torch.inference_mode():
        parts = [decoder(maps_of(store, levels, part)) for part in np.array_split(rows, max(1, len(rows) // 16))]
    return torch.cat(parts)
