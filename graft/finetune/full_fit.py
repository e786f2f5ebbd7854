"""Training on all images for a known number of epochs: nothing is held out, nothing is judged."""

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
    """Train for the number of epochs that was best on held-out images; return the result in eval mode.

    Args:
        start: the best model so far.
        stage: the groups to train and the learning rate; the schedule is the same as on the folds.
        train: all training images.
        settings: shared by all stages.
        epochs: how many of the stage's epochs to run.
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
