"""The training loop: it trains a classifier through a stage, one epoch at a time, and can be saved in between."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext

import numpy as np
import torch
from torch import nn

from graft.core.errors import ModelError, ParamsError
from graft.heads.protocols import Floats, Ints
from graft.models.classifier import Classifier
from graft.training import distributed
from graft.training.checkpoints import Checkpoint
from graft.training.freezing import apply_freeze, parameter_groups
from graft.training.labelled_images import LabelledImages, to_device
from graft.training.mixup import Mixture
from graft.training.objective import TrainingLoss
from graft.training.settings import TrainingSettings
from graft.training.small_maps import pad_small_maps_first
from graft.training.stage import Stage
from graft.training.sync_batchnorm import SharedNorms
from graft.training.trainable_state import Tensors, copied, load_tensors, trainable_tensors

WARM_UP = 0.1
"""Fraction of the steps in which the learning rate rises."""
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Training:
    """A classifier in training: the head and the groups of a stage are trained from `start`, which does not change.

    AdamW (Loshchilov & Hutter 2019), one cycle of the learning rate (up, then down along a cosine; Smith 2018), label
    smoothing, clipped gradients, and optionally a pull towards the initial backbone (L2-SP, Li et al. 2018). The
    weights that are judged and kept are `average`, a running average over about an epoch (Polyak & Juditsky 1992):
    single steps with small batches are noisy.

    All randomness is seeded by the epoch or the step, so that a training restored from `state` continues as if it had
    never been interrupted.

    Several processes that have `distributed.joined` share every batch and make the same steps as one process would: the
    loss is that of the entire batch, including label weights, and so are the statistics of BatchNorm if they are
    trained. Only mixtures, dropout and similar layers draw different numbers in each process.
    """

    def __init__(self, start: Classifier, stage: Stage, train: LabelledImages, settings: TrainingSettings) -> None:
        self.stage, self.train, self.settings = stage, train, settings
        self.epoch = 0
        self._process = distributed.this_process()
        if min(len(train), settings.batch_size) < self._process.size:
            raise ParamsError(
                f"fine_tune.batch_size={settings.batch_size}: {self._process.size} processes share the images of a "
                f"step, but there are only {min(len(train), settings.batch_size)}; start fewer processes"
            )
        self._device = distributed.training_device()
        self.classifier = copied(start, stage.groups, self._device)
        pad_small_maps_first(self.classifier)
        apply_freeze(self.classifier, stage.groups, train_norms=settings.train_norms, norms_only=settings.norms_only)
        self._forward = distributed.replicated(self.classifier)
        self.average = copied(self.classifier, stage.groups).eval()
        self._optimiser = torch.optim.AdamW(
            parameter_groups(self.classifier, stage, settings.layer_decay, settings.weight_decay), lr=stage.lr
        )
        self._peaks = [group["lr"] for group in self._optimiser.param_groups]
        self._origin = [parameter.detach().clone() for parameter in self._l2_sp_parameters()]
        self._objective = TrainingLoss(
            train.task,
            _on_device(settings.label_weights, self._device),
            settings.label_smoothing,
            _on_device(settings.logit_shift, self._device),
        )
        self._steps_per_epoch = max(1, len(train) // settings.batch_size)

    def run_epoch(self) -> float:
        """Train for one epoch; return its mean loss.

        Raises:
            ModelError: if the loss is not finite.
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
        """Return everything that `restore` needs, as tensors by name."""
        found: Tensors = {}
        for prefix, model in (("classifier.", self.classifier), ("average.", self.average)):
            tensors = trainable_tensors(model, self.stage.groups)
            found |= {prefix + name: tensor for name, tensor in tensors.items()}
        for number, moments in self._optimiser.state_dict()["state"].items():
            found |= {f"optimiser.{number}.{name}": moments[name] for name in _MOMENTS}
        return found | {"epoch": torch.tensor(self.epoch)}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from a `state`."""
        self.epoch = int(state["epoch"])
        for prefix, model in (("classifier.", self.classifier), ("average.", self.average)):
            load_tensors(model, {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)})
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
        # Dropout and similar layers use the global generator: it is seeded by step, so earlier draws do not matter.
        torch.manual_seed((settings.seed * 1_000_003 + step) * self._process.size + self._process.rank)
        loss = self._loss(positions)
        if not math.isfinite(loss.item()):
            raise ModelError(
                f"fine_tune: the loss is {loss.item()} in epoch {self.epoch} of stage {self.stage.name}; "
                f"lower fine_tune.lr (the peak was {self.stage.lr:g})"
            )
        self._optimiser.zero_grad(set_to_none=True)
        # DDP averages the gradients of the processes; each process's loss is its part of a sum.
        torch.autograd.backward(loss * self._process.size)
        nn.utils.clip_grad_norm_(self.classifier.parameters(), 1.0)
        self._optimiser.step()
        if settings.l2_sp:
            pull = settings.l2_sp * self.stage.lr * one_cycle(progress)
            with torch.no_grad():
                for parameter, origin in zip(self._l2_sp_parameters(), self._origin, strict=True):
                    parameter.lerp_(origin, min(1.0, pull))
        self._update_average(1.0 / min(step + 1, self._steps_per_epoch))
        return loss.item()

    def _loss(self, positions: Ints) -> torch.Tensor:
        """Return the mean loss of a batch; with several processes, each returns the part of its images."""
        mine = positions[self._process.part(len(positions))]
        activation, below = to_device(self._device, *self.train.batch(mine, (self.epoch - 1) % self.settings.views))
        targets = torch.from_numpy(self.train.targets[mine]).to(self._device)
        mixture = Mixture(len(mine), self.settings.mixup) if self.settings.mixup else None
        if mixture:
            activation, below = mixture.of(activation), [mixture.of(taps) for taps in below]
        shared = self._process.size > 1 and self.settings.train_norms
        with SharedNorms() if shared else nullcontext():
            logits = self._forward(activation, self.train.source.after, below)

        def loss(of: torch.Tensor) -> torch.Tensor:
            if self._process.size == 1:
                return self._objective.mean(logits, of)
            return self._objective.part_of_mean(logits, of, self.train.targets[positions])

        return mixture.loss(loss, targets) if mixture else loss(targets)

    def _l2_sp_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that L2-SP pulls to their initial values: those of the backbone."""
        return [p for p in self.classifier.backbone.parameters() if p.requires_grad] if self.settings.l2_sp else []

    def _update_average(self, share: float) -> None:
        """Move every tensor of the average by `share` of its distance to the classifier's."""
        new = trainable_tensors(self.classifier, self.stage.groups)
        with torch.no_grad():
            for name, kept in trainable_tensors(self.average, self.stage.groups).items():
                if kept.is_floating_point():
                    kept.lerp_(new[name], share)
                else:
                    kept.copy_(new[name])


def train_epochs(
    start: Classifier,
    stage: Stage,
    train: LabelledImages,
    settings: TrainingSettings,
    epochs: int,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
    checkpoint: Checkpoint | None = None,
) -> Classifier:
    """Train without held-out images; return the result in eval mode.

    Args:
        start: the best model so far.
        stage: the groups to train and the learning rate; the schedule is the same as on the folds.
        train: all training images.
        settings: shared by all stages.
        epochs: how many of the stage's epochs to run; older records ended before the schedule did.
        on_epoch: called after each epoch with its number (from 1) and training loss.
        checkpoint: from which an interrupted call resumes.
    """
    training = Training(start, stage, train, settings)
    if checkpoint and (found := checkpoint.read()):
        training.restore(found)
    while training.epoch < epochs:
        loss = training.run_epoch()
        on_epoch(training.epoch, loss)
        if checkpoint:
            checkpoint.write(training.state, due=training.epoch == epochs)
    return copied(training.average, stage.groups, next(start.parameters()).device)


def batches(n: int, batch_size: int, seed: int, epoch: int) -> Iterator[Ints]:
    """Yield the positions of an epoch's batches: a permutation determined by (seed, epoch).

    An incomplete last batch is left out (BatchNorm and gradients of two images are mostly noise), unless it is the only
    batch; each epoch leaves out different images.
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


def _on_device(weights: Floats | None, device: torch.device) -> torch.Tensor | None:
    return None if weights is None else torch.from_numpy(weights).float().to(device)
