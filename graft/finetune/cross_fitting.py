"""A stage trained on all folds in parallel; after every epoch each fold's model predicts its held-out images.

A few dozen validation images cannot show whether a stage helps, let alone which of its epochs is best: on 49 images the
loss of one training varied between 0.04 and 0.27 from epoch to epoch, and the epoch that looked best was worse than no
fine-tuning on the test images. With cross-validation every training image counts, and the noise of single trainings
averages out. A plain validation split is the case of one fold.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from graft.finetune.checkpoints import Checkpoint
from graft.finetune.labelled_images import LabelledImages
from graft.finetune.objective import Logits, mean_loss
from graft.finetune.prediction import predict
from graft.finetune.stage_plan import Stage
from graft.finetune.trainable_state import Tensors, copied, load_tensors, trainable_tensors
from graft.finetune.trainer import Training
from graft.finetune.training_settings import TrainingSettings
from graft.models.classifier import Classifier
from graft.tasks.task import Targets, Task

OnEpoch = Callable[[int, float, float], None]


@dataclass(frozen=True)
class Fold:
    """Images to train on and to hold out, and a start model that has not seen the held-out images."""

    start: Classifier
    train: LabelledImages
    held_out: LabelledImages
    """Predicted without augmentation."""


@dataclass(frozen=True)
class CrossFitted:
    """The result of a stage on its folds, at the epoch with the lowest loss on all held-out images together."""

    classifiers: tuple[Classifier, ...]
    """One per fold, in eval mode."""
    before: Logits
    """Logits of all held-out images by the folds' start models, (n, C), fold after fold."""
    after: Logits
    """The same, by `classifiers`."""
    targets: Targets
    """Of these images."""
    task: Task
    best_epoch: int
    """0 if no epoch was better than the start."""
    train_loss: tuple[float, ...]
    held_out_loss: tuple[float, ...]
    """Per epoch."""
    share: float = 1.0
    """How far `classifiers` are from the folds' starts towards the weights of the best epoch (see `wise_ft`)."""

    @property
    def start_loss(self) -> float:
        """The held-out loss before training."""
        return mean_loss(self.task, self.before, self.targets)

    @property
    def loss(self) -> float:
        """The held-out loss at the best epoch."""
        return mean_loss(self.task, self.after, self.targets)


def cross_fit(
    folds: Sequence[Fold],
    stage: Stage,
    settings: TrainingSettings,
    on_epoch: OnEpoch = lambda epoch, train_loss, held_out_loss: None,
    checkpoint: Checkpoint | None = None,
) -> CrossFitted:
    """Train all folds through a stage, epoch by epoch, until `patience` epochs bring no gain on held-out images.

    Args:
        folds: at least one.
        stage: the groups to train, the maximum number of epochs and the learning rate.
        settings: shared by all stages.
        on_epoch: called after each epoch with its number (from 1), training loss and held-out loss.
        checkpoint: from which an interrupted call resumes, with bit-identical results.
    """
    training = _FoldTraining(folds, stage, settings)
    if checkpoint and (found := checkpoint.read()):
        training.restore(found)
    while not training.ended:
        training.run_epoch()
        on_epoch(training.epoch, training.train_losses[-1], training.held_out_losses[-1])
        if checkpoint:
            checkpoint.write(training.state, due=training.ended)
    return training.result()


def predictions(classifiers: Sequence[Classifier], folds: Sequence[Fold]) -> Logits:
    """Return the logits of every fold's held-out images by that fold's classifier, fold after fold."""
    pairs = zip(classifiers, folds, strict=True)
    return np.concatenate([predict(classifier, fold.held_out) for classifier, fold in pairs])


class _FoldTraining:
    """The trainings of all folds, one epoch at a time, and the weights of the best epoch so far."""

    def __init__(self, folds: Sequence[Fold], stage: Stage, settings: TrainingSettings) -> None:
        self._folds, self._stage, self._settings = folds, stage, settings
        self._task = folds[0].held_out.task
        self._targets = np.concatenate([fold.held_out.targets for fold in folds])
        self._before = predictions([fold.start for fold in folds], folds)
        self._trainings = [Training(fold.start, stage, fold.train, settings) for fold in folds]
        self._best = [
            {name: tensor.clone() for name, tensor in trainable_tensors(training.average, stage.groups).items()}
            for training in self._trainings
        ]
        self._after, self._best_epoch = self._before, 0
        self.train_losses: list[float] = []
        self.held_out_losses: list[float] = []

    @property
    def epoch(self) -> int:
        """The number of epochs trained."""
        return len(self.train_losses)

    @property
    def ended(self) -> bool:
        """Whether the stage has run all its epochs, or the last `patience` of them brought no gain."""
        return self.epoch >= self._stage.epochs or self.epoch - self._best_epoch >= self._settings.patience

    def run_epoch(self) -> None:
        """Train every fold for one epoch and predict its held-out images."""
        self.train_losses.append(float(np.mean([training.run_epoch() for training in self._trainings])))
        logits = predictions([training.average for training in self._trainings], self._folds)
        self.held_out_losses.append(mean_loss(self._task, logits, self._targets))
        if self.held_out_losses[-1] < mean_loss(self._task, self._after, self._targets):
            self._after, self._best_epoch = logits, self.epoch
            for best, training in zip(self._best, self._trainings, strict=True):
                for name, tensor in trainable_tensors(training.average, self._stage.groups).items():
                    best[name].copy_(tensor)

    def result(self) -> CrossFitted:
        """Return the folds' classifiers at the best epoch, with their predictions."""
        classifiers = []
        for fold, tensors in zip(self._folds, self._best, strict=True):
            classifier = copied(fold.start, self._stage.groups).eval()
            load_tensors(classifier, tensors)
            classifiers.append(classifier)
        return CrossFitted(
            classifiers=tuple(classifiers),
            before=self._before,
            after=self._after,
            targets=self._targets,
            task=self._task,
            best_epoch=self._best_epoch,
            train_loss=tuple(self.train_losses),
            held_out_loss=tuple(self.held_out_losses),
        )

    def state(self) -> Tensors:
        """Return everything that `restore` needs, as tensors by name."""
        found = {
            "after": torch.from_numpy(self._after),
            "best_epoch": torch.tensor(self._best_epoch),
            "train_losses": torch.tensor(self.train_losses, dtype=torch.float64),
            "held_out_losses": torch.tensor(self.held_out_losses, dtype=torch.float64),
        }
        for number, (training, tensors) in enumerate(zip(self._trainings, self._best, strict=True)):
            found |= {f"training.{number}.{name}": tensor for name, tensor in training.state().items()}
            found |= {f"best.{number}.{name}": tensor for name, tensor in tensors.items()}
        return found

    def restore(self, state: Tensors) -> None:
        """Continue from a `state`."""
        self._after, self._best_epoch = state["after"].numpy(), int(state["best_epoch"])
        self.train_losses, self.held_out_losses = state["train_losses"].tolist(), state["held_out_losses"].tolist()
        for number, training in enumerate(self._trainings):
            training.restore(_with_prefix(state, f"training.{number}."))
            self._best[number] = _with_prefix(state, f"best.{number}.")


def _with_prefix(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
