"""A stage tried on folds: trained side by side, each judged on images it never saw, epoch by epoch.

A few dozen validation images cannot tell whether a stage helps, and still less which of its epochs is best: on 49 of
them the loss of one training swung between 0.04 and 0.27 from epoch to epoch, and the epoch that looked best was worse
than no fine-tuning at all on the test images. Cross-validated, every training image is a witness and the luck of single
trainings averages out. A plain validation split is the case of one fold.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from graft.finetune.checkpoints import Checkpoint
from graft.finetune.stage_plan import Stage
from graft.finetune.trainable_state import Tensors, copied, moving, put_back
from graft.finetune.trainer import Ints, Labelled, Logits, Settings, Training, mean_loss, predict
from graft.models.classifier import Classifier

OnEpoch = Callable[[int, float, float], None]


@dataclass(frozen=True)
class Fold:
    """Images to train on, from a start that never saw those held out."""

    start: Classifier
    train: Labelled
    held_out: Labelled
    """Seen as they are."""


@dataclass(frozen=True)
class CrossFitted:
    """What a stage came to on its folds, at the epoch of least loss on all held-out images together."""

    classifiers: tuple[Classifier, ...]
    """One per fold, in eval mode."""
    before: Logits
    """Of all held-out images by the folds' starts, (n, C), fold after fold."""
    after: Logits
    """The same by `classifiers`."""
    targets: Ints
    best_epoch: int
    """0 if no epoch was better than the start."""
    train_loss: tuple[float, ...]
    held_out_loss: tuple[float, ...]
    """Per epoch."""

    @property
    def start_loss(self) -> float:
        """The held-out loss before any step."""
        return mean_loss(self.before, self.targets)

    @property
    def loss(self) -> float:
        """The held-out loss at the best epoch."""
        return mean_loss(self.after, self.targets)


def cross_fit(
    folds: Sequence[Fold],
    stage: Stage,
    settings: Settings,
    on_epoch: OnEpoch = lambda epoch, train_loss, held_out_loss: None,
    checkpoint: Checkpoint | None = None,
) -> CrossFitted:
    """Train every fold through a stage, in step, until `patience` epochs brought nothing on the held-out images.

    Args:
        folds: at least one.
        stage: which groups, how long at most, how fast.
        settings: what all stages have in common.
        on_epoch: called after each epoch with its number (from 1), training loss and held-out loss.
        checkpoint: where an earlier call that was cut off is taken up, bit by bit the same.
    """
    targets = np.concatenate([fold.held_out.targets for fold in folds])
    before = predictions([fold.start for fold in folds], folds)
    trainings = [Training(fold.start, stage, fold.train, settings) for fold in folds]
    best = [moving(training.average, stage.groups) for training in trainings]
    best = [{name: tensor.clone() for name, tensor in tensors.items()} for tensors in best]
    after, best_epoch, train_losses, held_out_losses = before, 0, [], []
    if checkpoint and (found := checkpoint.read()):
        after, best_epoch = found["after"].numpy(), int(found["best_epoch"])
        train_losses, held_out_losses = found["train_losses"].tolist(), found["held_out_losses"].tolist()
        for number, training in enumerate(trainings):
            training.restore(_part(found, f"training.{number}."))
            best[number] = _part(found, f"best.{number}.")
    best_loss = mean_loss(after, targets)
    while len(train_losses) < stage.epochs and len(train_losses) - best_epoch < settings.patience:
        train_losses.append(float(np.mean([training.run_epoch() for training in trainings])))
        logits = predictions([training.average for training in trainings], folds)
        held_out_losses.append(mean_loss(logits, targets))
        epoch = len(train_losses)
        on_epoch(epoch, train_losses[-1], held_out_losses[-1])
        if held_out_losses[-1] < best_loss:
            best_loss, best_epoch, after = held_out_losses[-1], epoch, logits
            for kept, training in zip(best, trainings, strict=True):
                for name, tensor in moving(training.average, stage.groups).items():
                    kept[name].copy_(tensor)
        if checkpoint:
            ended = epoch == stage.epochs or epoch - best_epoch >= settings.patience
            state = partial(_state, trainings, best, after, best_epoch, train_losses, held_out_losses)
            checkpoint.write(state, due=ended)
    classifiers = []
    for fold, tensors in zip(folds, best, strict=True):
        classifier = copied(fold.start, stage.groups).eval()
        put_back(classifier, tensors)
        classifiers.append(classifier)
    return CrossFitted(
        tuple(classifiers), before, after, targets, best_epoch, tuple(train_losses), tuple(held_out_losses)
    )


def train_through(
    start: Classifier,
    stage: Stage,
    train: Labelled,
    settings: Settings,
    epochs: int,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
    checkpoint: Checkpoint | None = None,
) -> Classifier:
    """Train for as many epochs of a stage as its folds found best, on all of the images; nothing is judged.

    Args:
        start: the best model so far.
        stage: which groups, how fast; its schedule is that of the folds.
        train: all of the training images.
        settings: what all stages have in common.
        epochs: how many of the stage's.
        on_epoch: called after each epoch with its number (from 1) and training loss.
        checkpoint: where an earlier call that was cut off is taken up.
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


def predictions(classifiers: Sequence[Classifier], folds: Sequence[Fold]) -> Logits:
    """Return the logits of every fold's held-out images by its classifier, fold after fold."""
    pairs = zip(classifiers, folds, strict=True)
    return np.concatenate([predict(classifier, fold.held_out) for classifier, fold in pairs])


def _state(
    trainings: Sequence[Training],
    best: Sequence[Tensors],
    after: Logits,
    best_epoch: int,
    train_losses: Sequence[float],
    held_out_losses: Sequence[float],
) -> Tensors:
    found = {
        "after": torch.from_numpy(after),
        "best_epoch": torch.tensor(best_epoch),
        "train_losses": torch.tensor(train_losses, dtype=torch.float64),
        "held_out_losses": torch.tensor(held_out_losses, dtype=torch.float64),
    }
    for number, (training, tensors) in enumerate(zip(trainings, best, strict=True)):
        found |= {f"training.{number}.{name}": tensor for name, tensor in training.state().items()}
        found |= {f"best.{number}.{name}": tensor for name, tensor in tensors.items()}
    return found


def _part(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
