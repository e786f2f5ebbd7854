"""Training on all of the images for a number of epochs that is already known: nothing is held out, nothing judged."""

from collections.abc import Callable

from graft.finetune.checkpoints import Checkpoint
from graft.finetune.labelled_images import LabelledImages
from graft.finetune.stage_plan import Stage
from graft.finetune.trainable_state import copied
from graft.finetune.trainer import Training
from graft.finetune.training_settings import TrainingSettings
from graft.models.classifier import Classifier


def train_epochs(
    start: Classifier,
    stage: Stage,
    train: LabelledImages,
    settings: TrainingSettings,
    epochs: int,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
    checkpoint: Checkpoint | None = None,
) -> Classifier:
    """Train for as many epochs of a stage as held-out images found best; return the result in eval mode.

    Args:
        start: the best model so far.
        stage: which groups, how fast; its schedule is that of the folds.
        train: all of the training images.
        settings: what all stages have in common.
        epochs: how many of the stage's.
        on_epoch: called after each epoch with its number (from 1) and training loss.
        checkpoint: where an earlier call that was cut off is resumed.
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
