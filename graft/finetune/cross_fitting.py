"""A stage trained on all folds in parallel; now and then each fold's model predicts its held-out images.

A few dozen validation images cannot show whether a stage helps: on 49 images the loss of one training varied between
0.04 and 0.27 from epoch to epoch. With cross-validation every training image counts, and the noise of single trainings
averages out. A plain validation split is the case of one fold.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from graft.finetune.stage_verdict import HeldOut
from graft.models.classifier import Classifier
from graft.training.checkpoints import Checkpoint
from graft.training.labelled_images import LabelledImages
from graft.training.objective import Logits
from graft.training.prediction import predict
from graft.training.settings import TrainingSettings
from graft.training.stage import Stage
from graft.training.trainable_state import Tensors, copied, load_tensors, trainable_tensors
from graft.training.trainer import Training

OnEpoch = Callable[[int, float, float | None], None]
JUDGED = 4
"""How often the held-out images are predicted during a stage. With two folds, a prediction of all images costs a third
of an epoch; only the last one decides."""


@dataclass(frozen=True)
class Fold:
    """Images to train on and to hold out, and a start model that has not seen the held-out images."""

    start: Classifier
    train: LabelledImages
    held_out: LabelledImages
    """Predicted without augmentation."""
    before: Logits | None = None
    """Logits (n, C) of the held-out images by `start`; None: not computed yet."""

    def predicted_before(self) -> Logits:
        """Return the logits (n, C) of the held-out images by the start model."""
        return predict(self.start, self.held_out) if self.before is None else self.before


@dataclass(frozen=True)
class CrossFitted:
    """The result of a stage on its folds, at the end of its schedule."""

    classifiers: tuple[Classifier, ...]
    """One per fold, in eval mode."""
    held_out: HeldOut
    """The images that no model has seen that predicts them, fold after fold."""
    before: Logits
    """Their logits (n, C) by the models that the folds started from."""
    after: Logits
    """Their logits (n, C) by `classifiers`."""
    train_loss: tuple[float, ...]
    """Per epoch."""
    held_out_loss: tuple[float, ...]
    """After the `judged_epochs`, each at a temperature of its own."""
    share: float = 1.0
    """How far `classifiers` are from the folds' starts towards the weights of the last epoch (see `wise_ft`)."""
    choices: float = 1.0
    """How many independent results this one is the best of, if the held-out images chose `share`."""


def judged_epochs(epochs: int) -> tuple[int, ...]:
    """Return the epochs, from 1, after which the held-out images are predicted: evenly spaced, the last one too."""
    return tuple(sorted({-(-epochs * part // JUDGED) for part in range(1, JUDGED + 1)}))


def held_out_images(folds: Sequence[Fold]) -> HeldOut:
    """Return the held-out images of all folds, fold after fold."""
    parts = [fold.held_out for fold in folds]
    groups = np.concatenate([part.groups for part in parts])
    return HeldOut(parts[0].task, np.concatenate([part.targets for part in parts]), groups)


def cross_fit(
    folds: Sequence[Fold],
    stage: Stage,
    settings: TrainingSettings,
    on_epoch: OnEpoch = lambda epoch, train_loss, held_out_loss: None,
    checkpoint: Checkpoint | None = None,
) -> CrossFitted:
    """Train all folds through a stage, epoch by epoch, to the end of its schedule.

    The learning rate of a stage rises and then falls to zero; as long as it is high, the held-out loss says little: on
    digits it was still higher than before the stage when three of eight epochs were over, and a third lower at the end.

    Args:
        folds: at least one.
        stage: the groups to train, the number of epochs and the learning rate.
        settings: shared by all stages.
        on_epoch: called after each epoch with its number (from 1), training loss and held-out loss (None: not known).
        checkpoint: from which an interrupted call resumes, with bit-identical results.
    """
    training = _FoldTraining(folds, stage, settings)
    if checkpoint and (found := checkpoint.read()):
        training.restore(found)
    while training.epoch < stage.epochs:
        training.run_epoch()
        held_out = training.held_out_losses[-1] if training.epoch in training.judged else None
        on_epoch(training.epoch, training.train_losses[-1], held_out)
        if checkpoint:
            checkpoint.write(training.state, due=training.epoch == stage.epochs)
    return training.result()


def predictions(classifiers: Sequence[Classifier], folds: Sequence[Fold]) -> Logits:
    """Return the logits of every fold's held-out images by that fold's classifier, fold after fold."""
    pairs = zip(classifiers, folds, strict=True)
    return np.concatenate([predict(classifier, fold.held_out) for classifier, fold in pairs])


class _FoldTraining:
    """The trainings of all folds, one epoch at a time."""

    def __init__(self, folds: Sequence[Fold], stage: Stage, settings: TrainingSettings) -> None:
        self._folds, self._stage = folds, stage
        self._before = np.concatenate([fold.predicted_before() for fold in folds])
        self._after = self._before
        self._held_out = held_out_images(folds)
        self._trainings = [Training(fold.start, stage, fold.train, settings) for fold in folds]
        self.judged = judged_epochs(stage.epochs)
        self.train_losses: list[float] = []
        self.held_out_losses: list[float] = []

    @property
    def epoch(self) -> int:
        """The number of epochs trained."""
        return len(self.train_losses)

    def run_epoch(self) -> None:
        """Train every fold for one epoch; predict its held-out images, if this epoch is judged."""
        self.train_losses.append(float(np.mean([training.run_epoch() for training in self._trainings])))
        if self.epoch not in self.judged:
            return
        self._after = predictions([training.average for training in self._trainings], self._folds)
        self.held_out_losses.append(self._held_out.loss(self._after))

    def result(self) -> CrossFitted:
        """Return the folds' classifiers with their predictions."""
        classifiers = []
        for fold, training in zip(self._folds, self._trainings, strict=True):
            classifier = copied(fold.start, self._stage.groups).eval()
            load_tensors(classifier, trainable_tensors(training.average, self._stage.groups))
            classifiers.append(classifier)
        return CrossFitted(
            classifiers=tuple(classifiers),
            held_out=self._held_out,
            before=self._before,
            after=self._after,
            train_loss=tuple(self.train_losses),
            held_out_loss=tuple(self.held_out_losses),
        )

    def state(self) -> Tensors:
        """Return everything that `restore` needs, as tensors by name."""
        found = {
            "train_losses": torch.tensor(self.train_losses, dtype=torch.float64),
            "held_out_losses": torch.tensor(self.held_out_losses, dtype=torch.float64),
            "after": torch.from_numpy(self._after),
        }
        for number, training in enumerate(self._trainings):
            found |= {f"training.{number}.{name}": tensor for name, tensor in training.state().items()}
        return found

    def restore(self, state: Tensors) -> None:
        """Continue from a `state`."""
        self.train_losses, self.held_out_losses = state["train_losses"].tolist(), state["held_out_losses"].tolist()
        self._after = state["after"].numpy()
        for number, training in enumerate(self._trainings):
            training.restore(_with_prefix(state, f"training.{number}."))


def _with_prefix(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
