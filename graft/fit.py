"""The one training loop: a stage of fine-tuning, from the best model so far to a better one or back."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from graft.errors import ModelError
from graft.head import Classifier
from graft.plan import Stage, apply_freeze, parameter_groups

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Images(Protocol):
    """Where a stage's inputs come from: computed as needed, or read from a cache; the numbers are the same."""

    after: str | None
    """The frozen group whose activation is given; None for the normalised images themselves."""

    def batch(self, positions: Ints, view: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the activations of some images in one view, and the pooled features of the head's taps below."""


@dataclass(frozen=True)
class Labelled:
    """Images with their classes and, for the order of batches, nothing else."""

    images: Images
    targets: Ints

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.targets)


@dataclass(frozen=True)
class Settings:
    """What all stages have in common."""

    batch_size: int
    views: int
    layer_decay: float
    weight_decay: float
    label_smoothing: float
    patience: int
    train_norms: bool
    class_weight: Floats | None
    seed: int


@dataclass(frozen=True)
class Fitted:
    """What training a stage came to."""

    classifier: Classifier
    """At the best epoch, in eval mode; epoch 0, before any step, counts."""
    val_logits: npt.NDArray[np.float32]
    best_epoch: int
    train_loss: tuple[float, ...]
    val_loss: tuple[float, ...]


WARM_UP = 0.1
"""Part of the steps in which the learning rate rises."""
EVALUATION_BATCH = 64


def fit_stage(
    start: Classifier,
    stage: Stage,
    train: Labelled,
    val: Labelled,
    settings: Settings,
    on_epoch: Callable[[int, float, float], None] = lambda epoch, train_loss, val_loss: None,
) -> Fitted:
    """Train the head and the groups of a stage, starting from `start`, which is left as it is.

    AdamW, one cycle of the learning rate (up, then down along a cosine), label smoothing, clipped gradients. What is
    judged and kept is a running average of the weights over about an epoch (Polyak & Juditsky 1992): single steps of so
    few images scatter. The epoch with the least loss on validation is kept, and training stops after `patience` epochs
    without a better one.

    Args:
        start: the best model so far.
        stage: which groups, how long, how fast.
        train, val: the images; validation is always seen unaugmented.
        settings: what all stages have in common.
        on_epoch: called after each epoch with its number (from 1), training loss and validation loss.

    Raises:
        ModelError: if the loss is no longer a number.
    """
    classifier = copy.deepcopy(start)
    apply_freeze(classifier, stage.groups, train_norms=settings.train_norms)
    optimiser = torch.optim.AdamW(
        parameter_groups(classifier, stage, settings.layer_decay, settings.weight_decay), lr=stage.lr
    )
    peaks = [group["lr"] for group in optimiser.param_groups]
    weight = None if settings.class_weight is None else torch.from_numpy(settings.class_weight).float()
    steps_per_epoch = max(1, len(train) // settings.batch_size)
    steps = steps_per_epoch * stage.epochs
    average = copy.deepcopy(classifier).eval()
    best = Fitted(copy.deepcopy(average), predict(average, val), 0, (), ())
    best_loss = mean_loss(best.val_logits, val.targets)
    train_losses: list[float] = []
    val_losses: list[float] = []
    step = 0
    for epoch in range(1, stage.epochs + 1):
        classifier.train()
        total, seen = 0.0, 0
        for positions in batches(len(train), settings.batch_size, settings.seed, epoch):
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * one_cycle(step / steps)
            # Dropout and the like draw from the global generator: seeded by step, whatever ran before.
            torch.manual_seed(settings.seed * 1_000_003 + step)
            activation, below = train.images.batch(positions, (epoch - 1) % settings.views)
            targets = torch.from_numpy(train.targets[positions])
            logits = classifier.from_boundary(activation, train.images.after, below)
            loss = F.cross_entropy(logits, targets, weight, label_smoothing=settings.label_smoothing)
            if not math.isfinite(loss.item()):
                raise ModelError(
                    f"fine_tune: the loss is {loss.item()} in epoch {epoch} of stage {stage.name}; "
                    f"lower fine_tune.lr (the peak was {stage.lr:g})"
                )
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
            optimiser.step()
            _follow(average, classifier, 1.0 / min(step + 1, steps_per_epoch))
            total, seen, step = total + loss.item() * len(positions), seen + len(positions), step + 1
        val_logits = predict(average, val)
        train_losses.append(total / max(1, seen))
        val_losses.append(mean_loss(val_logits, val.targets))
        on_epoch(epoch, train_losses[-1], val_losses[-1])
        if val_losses[-1] < best_loss:
            best_loss = val_losses[-1]
            best = Fitted(copy.deepcopy(average), val_logits, epoch, (), ())
        elif epoch - best.best_epoch >= settings.patience:
            break
    return Fitted(best.classifier, best.val_logits, best.best_epoch, tuple(train_losses), tuple(val_losses))


def _follow(average: Classifier, classifier: Classifier, share: float) -> None:
    """Move every tensor of the average by `share` of its distance to the classifier's."""
    with torch.no_grad():
        for kept, new in zip(average.state_dict().values(), classifier.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, share)
            else:
                kept.copy_(new)


def predict(classifier: Classifier, images: Labelled) -> npt.NDArray[np.float32]:
    """Return the logits (n, C) of images as they are, in eval mode."""
    classifier.eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(images), EVALUATION_BATCH):
            positions = np.arange(start, min(start + EVALUATION_BATCH, len(images)))
            activation, below = images.images.batch(positions, 0)
            found.append(classifier.from_boundary(activation, images.images.after, below).numpy())
    return np.concatenate(found)


def mean_loss(logits: npt.NDArray[np.float32], targets: Ints) -> float:
    """Return the mean cross-entropy of logits (n, C)."""
    return float(losses(logits, targets).mean())


def losses(logits: npt.NDArray[np.float32], targets: Ints) -> Floats:
    """Return the cross-entropy of every image, (n,)."""
    scores = torch.from_numpy(logits).double()
    found: Floats = F.cross_entropy(scores, torch.from_numpy(targets), reduction="none").numpy()
    return found


def batches(n: int, batch_size: int, seed: int, epoch: int) -> Iterator[Ints]:
    """Yield the positions of an epoch's batches: a permutation determined by (seed, epoch).

    The rest that does not fill a batch is left out (BatchNorm and gradients of two images are mostly noise), unless it
    is all there is; another epoch has another rest.
    """
    order = np.random.default_rng([seed, epoch]).permutation(n)
    full = n - n % batch_size if n >= batch_size else n
    for start in range(0, full, batch_size):
        yield order[start : start + batch_size]


def one_cycle(progress: float) -> float:
    """Return the factor of the peak learning rate at `progress` in [0, 1] of training (Smith 2018)."""
    if progress < WARM_UP:
        return 0.1 + 0.9 * progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def changed(groups: Sequence[str], before: Classifier, after: Classifier) -> tuple[str, ...]:
    """Return which of the backbone's groups have other weights after than before."""
    pairs = zip(groups, before.backbone.groups, after.backbone.groups, strict=True)
    return tuple(name for name, a, b in pairs if not _equal(a, b))


def _equal(first: nn.Module, second: nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)
