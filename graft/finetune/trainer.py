"""The one training loop: a classifier goes through a stage an epoch at a time, and can be put down in between."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from graft.core.errors import ModelError, ParamsError
from graft.finetune import distributed
from graft.finetune.stage_plan import Stage, apply_freeze, parameter_groups
from graft.finetune.sync_batchnorm import SharedNorms
from graft.finetune.trainable_state import Tensors, copied, moving, put_back
from graft.models.classifier import Classifier

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Logits = npt.NDArray[np.float32]
Inputs = tuple[torch.Tensor, list[torch.Tensor]]


class Images(Protocol):
    """Where a stage's inputs come from: computed as needed, or read from a cache; the numbers are the same."""

    after: str | None
    """The frozen group whose activation is given; None for the normalised images themselves."""

    def batch(self, positions: Ints, view: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the activations of some images in one view, and the pooled features of the head's taps below."""


@dataclass(frozen=True)
class Labelled:
    """Images with their classes."""

    images: Images
    targets: Ints
    """Classes (n,)."""
    rows: Ints
    """Positions (n,) among all the images."""

    @classmethod
    def all(cls, images: Images, targets: Ints) -> "Labelled":
        """Return all of the images."""
        return cls(images, targets, np.arange(len(targets)))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.targets)

    def some(self, rows: Ints) -> "Labelled":
        """Return those at the positions `rows` of these."""
        return Labelled(self.images, self.targets[rows], self.rows[rows])

    def batch(self, positions: Ints, view: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the inputs of the images at `positions` of these; see `Images.batch`."""
        return self.images.batch(self.rows[positions], view)


@dataclass(frozen=True)
class Settings:
    """What all stages have in common."""

    batch_size: int
    views: int
    layer_decay: float
    weight_decay: float
    l2_sp: float
    label_smoothing: float
    patience: int
    train_norms: bool
    class_weight: Floats | None
    seed: int


WARM_UP = 0.1
"""Part of the steps in which the learning rate rises."""
EVALUATION_BATCH = 64
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Training:
    """A classifier in training: the head and the groups of a stage move, starting from `start`, which does not.

    AdamW (Loshchilov & Hutter 2019), one cycle of the learning rate (up, then down along a cosine; Smith 2018), label
    smoothing, clipped gradients, and on request a pull towards where the backbone started (L2-SP, Li et al. 2018).
    What is judged and kept is `average`, a running average of the weights over about an epoch (Polyak & Juditsky
    1992): single steps of so few images scatter.

    Everything random is seeded by the epoch or the step, so that a training restored from `state` goes on as if it had
    never been put down.

    Several processes that have `distributed.joined` share every batch, and go through the same steps as one would: the
    loss is that of the whole batch, class weights included, and so are the statistics of BatchNorm where they are
    trained. Only dropout and the like draw other numbers in each.
    """

    def __init__(self, start: Classifier, stage: Stage, train: Labelled, settings: Settings) -> None:
        self.stage, self.train, self.settings = stage, train, settings
        self.epoch = 0
        self._world = distributed.present()
        if min(len(train), settings.batch_size) < self._world.size:
            raise ParamsError(
                f"fine_tune.batch_size={settings.batch_size}: {self._world.size} processes share the images of a step, "
                f"of which there are {min(len(train), settings.batch_size)}; start fewer"
            )
        self._device = distributed.training_device()
        self.classifier = copied(start, stage.groups, self._device)
        apply_freeze(self.classifier, stage.groups, train_norms=settings.train_norms)
        self._forward = distributed.replicated(self.classifier)
        self.average = copied(self.classifier, stage.groups).eval()
        self._optimiser = torch.optim.AdamW(
            parameter_groups(self.classifier, stage, settings.layer_decay, settings.weight_decay), lr=stage.lr
        )
        self._peaks = [group["lr"] for group in self._optimiser.param_groups]
        self._origin = [parameter.detach().clone() for parameter in self._pulled()]
        weight = settings.class_weight
        self._class_weight = None if weight is None else torch.from_numpy(weight).float().to(self._device)
        self._steps_per_epoch = max(1, len(train) // settings.batch_size)

    def run_epoch(self) -> float:
        """Train for an epoch; return its mean loss.

        Raises:
            ModelError: if the loss is no longer a number.
        """
        self.epoch += 1
        step = (self.epoch - 1) * self._steps_per_epoch
        self.classifier.train()
        total, seen = 0.0, 0
        for positions in batches(len(self.train), self.settings.batch_size, self.settings.seed, self.epoch):
            loss = self._step(positions, step)
            total, seen, step = total + loss * len(positions), seen + len(positions), step + 1
        return distributed.summed(total) / seen

    def state(self) -> Tensors:
        """Return all that `restore` needs, as tensors by name."""
        found = {f"classifier.{name}": tensor for name, tensor in moving(self.classifier, self.stage.groups).items()}
        found |= {f"average.{name}": tensor for name, tensor in moving(self.average, self.stage.groups).items()}
        for number, moments in self._optimiser.state_dict()["state"].items():
            found |= {f"optimiser.{number}.{name}": moments[name] for name in _MOMENTS}
        return found | {"epoch": torch.tensor(self.epoch)}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go back to where `state` was taken."""
        self.epoch = int(state["epoch"])
        for prefix, model in (("classifier.", self.classifier), ("average.", self.average)):
            put_back(model, {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)})
        optimiser = self._optimiser.state_dict()
        numbers = [number for group in optimiser["param_groups"] for number in group["params"]]
        optimiser["state"] = {
            number: {name: state[f"optimiser.{number}.{name}"].clone() for name in _MOMENTS}
            for number in numbers
            if f"optimiser.{number}.step" in state
        }
        self._optimiser.load_state_dict(optimiser)

    def _step(self, positions: Ints, step: int) -> float:
        settings = self.settings
        progress = step / (self._steps_per_epoch * self.stage.epochs)
        for group, peak in zip(self._optimiser.param_groups, self._peaks, strict=True):
            group["lr"] = peak * one_cycle(progress)
        # Dropout and the like draw from the global generator: seeded by step, whatever ran before.
        torch.manual_seed((settings.seed * 1_000_003 + step) * self._world.size + self._world.rank)
        loss = self._loss(positions)
        if not math.isfinite(loss.item()):
            raise ModelError(
                f"fine_tune: the loss is {loss.item()} in epoch {self.epoch} of stage {self.stage.name}; "
                f"lower fine_tune.lr (the peak was {self.stage.lr:g})"
            )
        self._optimiser.zero_grad(set_to_none=True)
        # DDP takes the mean of the processes' gradients; each process's loss is its part of a sum.
        torch.autograd.backward(loss * self._world.size)
        nn.utils.clip_grad_norm_(self.classifier.parameters(), 1.0)
        self._optimiser.step()
        if settings.l2_sp:
            pull = settings.l2_sp * self.stage.lr * one_cycle(progress)
            with torch.no_grad():
                for parameter, origin in zip(self._pulled(), self._origin, strict=True):
                    parameter.lerp_(origin, min(1.0, pull))
        self._follow(1.0 / min(step + 1, self._steps_per_epoch))
        return loss.item()

    def _loss(self, positions: Ints) -> torch.Tensor:
        """Return the mean loss of a batch; of several processes, each returns its images' part of it."""
        mine = positions[self._world.part(len(positions))]
        activation, below = on(self._device, *self.train.batch(mine, (self.epoch - 1) % self.settings.views))
        targets = torch.from_numpy(self.train.targets[mine]).to(self._device)
        options: dict[str, Any] = {"weight": self._class_weight, "label_smoothing": self.settings.label_smoothing}
        if self._world.size == 1:
            return F.cross_entropy(self._forward(activation, self.train.images.after, below), targets, **options)
        with SharedNorms() if self.settings.train_norms else nullcontext():
            logits = self._forward(activation, self.train.images.after, below)
        of_all = torch.from_numpy(self.train.targets[positions]).to(self._device)
        counted = len(positions) if self._class_weight is None else self._class_weight[of_all].sum()
        return F.cross_entropy(logits, targets, reduction="sum", **options) / counted

    def _pulled(self) -> list[nn.Parameter]:
        """Return the parameters that L2-SP holds near their origin: those that were pretrained."""
        return [p for p in self.classifier.backbone.parameters() if p.requires_grad] if self.settings.l2_sp else []

    def _follow(self, share: float) -> None:
        """Move every tensor of the average by `share` of its distance to the classifier's."""
        new = moving(self.classifier, self.stage.groups)
        with torch.no_grad():
            for name, kept in moving(self.average, self.stage.groups).items():
                if kept.is_floating_point():
                    kept.lerp_(new[name], share)
                else:
                    kept.copy_(new[name])


def predict(classifier: Classifier, images: Labelled) -> Logits:
    """Return the logits (n, C) of images as they are, in eval mode."""
    classifier.eval()
    return _in_batches(classifier, images, lambda *inputs: classifier.from_boundary(*inputs))


def read_features(classifier: Classifier, images: Labelled) -> npt.NDArray[np.float32]:
    """Return what the head reads of images as they are, (n, D), in eval mode."""
    classifier.eval()
    return _in_batches(classifier, images, lambda *inputs: classifier.features(*inputs))


def _in_batches(classifier: Classifier, images: Labelled, compute: "Compute") -> npt.NDArray[np.float32]:
    found = []
    device = next(classifier.parameters()).device
    mine = np.arange(len(images))[distributed.present().part(len(images))]
    with torch.inference_mode():
        for start in range(0, len(mine), EVALUATION_BATCH):
            activation, below = on(device, *images.batch(mine[start : start + EVALUATION_BATCH], 0))
            found.append(compute(activation, images.images.after, below).cpu().numpy())
    return distributed.gathered(np.concatenate(found) if found else None)


def on(device: torch.device, activation: torch.Tensor, below: Sequence[torch.Tensor]) -> Inputs:
    """Return what `Images.batch` gives, on a device."""
    return activation.to(device), [taps.to(device) for taps in below]


class Compute(Protocol):
    """From the arguments of `Classifier.from_boundary` to a row per image."""

    def __call__(self, activation: torch.Tensor, after: str | None, below: list[torch.Tensor], /) -> torch.Tensor:
        """Return (b, anything)."""


def mean_loss(logits: Logits, targets: Ints) -> float:
    """Return the mean cross-entropy of logits (n, C)."""
    return float(losses(logits, targets).mean())


def losses(logits: Logits, targets: Ints) -> Floats:
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
