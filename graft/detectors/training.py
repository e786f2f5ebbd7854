"""Train a detector by epochs, one photo a step: frozen maps from the cache, or photos through trained groups.

Everything is drawn from seed, epoch and photo, so that a run that was killed goes on as if it had not been.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from graft.core.errors import ModelError
from graft.core.progress import progress
from graft.training.checkpoints import Checkpoint
from graft.training.epoch_state import EpochState

LEARNING_RATE, WEIGHT_DECAY, WARM_UP = 1e-3, 1e-4, 0.1
PASSES, LEAST_EPOCHS, MOST_EPOCHS = 1000, 4, 15
"""Photos that are seen in all, if that is not too few or too many epochs."""
Rows = npt.NDArray[np.int64]
Loss = Callable[[int, bool], torch.Tensor]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast."""

    epochs: int
    seed: int = 0
    flip: bool = True
    """Whether photos are mirrored at random."""
    what: str = "train_head"
    """For the progress."""


def epochs_for(photos: int) -> int:
    """Return the number of epochs: few photos are seen more often."""
    return max(LEAST_EPOCHS, min(MOST_EPOCHS, -(-PASSES // max(1, photos))))


def train(
    network: nn.Module,
    groups: Sequence[dict[str, object]],
    rows: Rows,
    loss_of: Loss,
    schedule: Schedule,
    checkpoint: Checkpoint | None = None,
) -> list[float]:
    """Train in place, and return the mean loss of every epoch; the result is in eval mode.

    Args:
        network: what is switched to training mode and kept in checkpoints.
        groups: parameters and learning rates, as the optimiser takes them.
        rows: the photos.
        loss_of: the loss of a photo, mirrored or not.
        schedule: how long.
        checkpoint: where the state after each epoch is kept; None: nowhere.

    Raises:
        ModelError: if the loss is no longer a number.
    """
    optimiser = torch.optim.AdamW(list(groups), weight_decay=WEIGHT_DECAY)
    top = [group["lr"] for group in optimiser.param_groups]
    steps = max(2, schedule.epochs * len(rows))
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, top, total_steps=steps, pct_start=WARM_UP)
    state = EpochState(network, optimiser, cycle)
    losses = state.resume(checkpoint)
    for epoch in range(len(losses), schedule.epochs):
        network.train()
        draws = np.random.default_rng([schedule.seed, epoch])
        order, mirrored = draws.permutation(rows), draws.random(len(rows)) < (0.5 if schedule.flip else 0.0)
        total = 0.0
        name = f"{schedule.what} epoch {epoch + 1} of {schedule.epochs}"
        for row, flipped in progress(list(zip(order, mirrored, strict=True)), name, unit="photos"):
            with torch.random.fork_rng(devices=[]):
                # torchvision draws the proposals that it learns from
                torch.manual_seed(hash((schedule.seed, epoch, int(row))) % 2**63)
                loss = loss_of(int(row), bool(flipped))
            if not torch.isfinite(loss):
                raise ModelError(f"{schedule.what}: the loss is {loss.item()}; look at the objects of photo {row}")
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            cycle.step()
            total += loss.item()
        losses.append(total / len(rows))
        if checkpoint:
            checkpoint.write(lambda: state.tensors(losses))
    network.eval()
    return losses
