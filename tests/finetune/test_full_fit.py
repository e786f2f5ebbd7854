"""Training on all images for a known number of epochs."""

from pathlib import Path

import numpy as np

from graft.finetune.checkpoints import Checkpoint
from graft.finetune.full_fit import train_epochs
from graft.finetune.objective import mean_loss
from graft.finetune.prediction import predict
from tests.support.tiny_training import SETTINGS, STAGE, TASK, labelled, untrained


def test_training_on_all_images_lowers_the_loss_and_resumes(tmp_path: Path) -> None:
    start, images = untrained(), labelled(48, 0)
    end = train_epochs(start, STAGE, images, SETTINGS, 3)
    assert mean_loss(TASK, predict(end, images), images.targets) < mean_loss(
        TASK, predict(start, images), images.targets
    )
    checkpoint = Checkpoint(tmp_path / "all.safetensors")
    train_epochs(start, STAGE, images, SETTINGS, 2, checkpoint=checkpoint)
    epochs: list[int] = []
    again = train_epochs(start, STAGE, images, SETTINGS, 3, lambda epoch, loss: epochs.append(epoch), checkpoint)
    assert epochs == [3]
    np.testing.assert_array_equal(predict(again, images), predict(end, images))
