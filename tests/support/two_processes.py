"""Trainings that are the same for one process and for two: run by each of two processes, or by a test alone.

`python two_processes.py FOLDER`, once for every process that the environment names, leaves what came of each training
in FOLDER/<rank>.safetensors.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from graft.backbones.activation_cache import BoundaryCache
from graft.finetune.cross_fitting import cross_fit
from graft.runs.processes import current_process, raise_first_failure
from graft.training.checkpoints import Checkpoint
from graft.training.distributed import from_first, gathered, joined, summed, this_process
from graft.training.prediction import predict
from graft.training.settings import TrainingSettings
from graft.training.stage import Stage
from graft.training.trainable_state import Tensors, trainable_tensors
from graft.training.trainer import Training, train_epochs
from tests.support.tiny_training import SETTINGS, STAGE, labelled, three_folds, untrained


def trained(images: int, settings: TrainingSettings, stage: Stage = STAGE, epochs: int = 3) -> Tensors:
    """The losses of a training's epochs, and the weights it came to."""
    training = Training(untrained(), stage, labelled(images, 0), settings)
    losses = [training.run_epoch() for _ in range(epochs)]
    found = {name: tensor.clone() for name, tensor in trainable_tensors(training.average, stage.groups).items()}
    return {"losses": torch.tensor(losses, dtype=torch.float64), **found}


def cross_validated() -> Tensors:
    """What three folds said of each other's images."""
    fitted = cross_fit(three_folds(untrained(), labelled(50, 0)), STAGE, replace(SETTINGS, train_norms=False))
    return {
        "train_loss": torch.tensor(fitted.train_loss),
        "held_out_loss": torch.tensor(fitted.held_out_loss),
        "before": torch.from_numpy(fitted.before),
        "after": torch.from_numpy(fitted.after),
    }


def taken_up() -> Tensors:
    """What a training came to that was put down after an epoch."""
    with tempfile.TemporaryDirectory() as folder:
        # Of two processes only the first has a folder with the checkpoint in it.
        checkpoint = Checkpoint(Path(folder) / "training.safetensors")
        run = (untrained(), STAGE, labelled(33, 0), replace(SETTINGS, train_norms=False))
        train_epochs(*run, 1, checkpoint=checkpoint)
        told: list[int] = []
        end = train_epochs(*run, 3, lambda epoch, loss: told.append(epoch), checkpoint)
        return {"epochs": torch.tensor(told), **trainable_tensors(end, STAGE.groups)}


def activations() -> Tensors:
    """What is cached, and how often it was computed."""
    folder = Path(from_first(tempfile.mkdtemp))

    def pixels(position: int, view: int) -> torch.Tensor:
        with (folder / "asked").open("a") as asked:
            asked.write(f"{position}\n")
        return torch.full((3, 32, 32), position + view, dtype=torch.uint8)

    cache = BoundaryCache(folder, untrained().backbone.truncated("features.1"), pixels, 9, 2, 1)
    values = cache.batch(np.arange(9), 1).contiguous()
    summed(0.0)  # all have read it
    return {"values": values, "asked": torch.tensor(len((folder / "asked").read_text().split()))}


def talk() -> Tensors:
    """What processes tell each other: alone, one tells itself."""
    rank, size = this_process().rank, this_process().size
    own = np.full((1, 2), rank, np.float32)
    return {
        "summed": torch.tensor(summed(1.0 / size)),
        "from_first": torch.tensor(from_first(lambda: rank)),
        "gathered": torch.from_numpy(gathered(own if rank == 0 else None)),
        "one_image": torch.from_numpy(predict(untrained(), labelled(1, 0))),
    }


WEIGHTED = replace(
    SETTINGS, batch_size=7, label_weights=np.array([0.4, 1.6]), label_smoothing=0.1, l2_sp=5.0, train_norms=False
)
TRAININGS: dict[str, Callable[[], Tensors]] = {
    "talk": talk,
    "batches of 8": lambda: trained(33, replace(SETTINGS, train_norms=False)),
    "batches of 7, weighted": lambda: trained(33, WEIGHTED),
    "fewer images than a batch": lambda: trained(5, replace(SETTINGS, train_norms=False)),
    "BatchNorm trained": lambda: trained(33, replace(SETTINGS, batch_size=7)),
    "cross-validated": cross_validated,
    "taken up": taken_up,
    "activations": activations,
}

if __name__ == "__main__":
    process = current_process()
    with joined(process) as peers, raise_first_failure(peers):
        results = {f"{name}/{key}": tensor for name, run in TRAININGS.items() for key, tensor in run().items()}
        (Path(sys.argv[1]) / f"{process.rank}.safetensors").write_bytes(safetensors.torch.save(results))
