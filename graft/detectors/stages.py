"""The step `fine_tune` for task instances: stages on photos and mirror images, judged by F1 of each photo's objects."""

from functools import partial
from pathlib import Path

import torch

from graft.core.errors import ParamsError
from graft.dense.stages import Measured, StageTrainer, fine_tune_bundle
from graft.detectors.detector import Detector
from graft.detectors.detector_bundle import DetectorBundle, DetectorStage
from graft.detectors.photo_pixels import padded, prepared
from graft.detectors.targets import target_of
from graft.detectors.training import Schedule, train
from graft.objects.average_precision import best_score, counts_at, match
from graft.objects.object_dataset import ObjectDataset
from graft.params.fine_tune import FineTuneParams
from graft.runs.run_log import Log
from graft.runs.step import Metrics
from graft.tasks.pixels import refuse_others
from graft.training.checkpoints import Checkpoint

USED_PARAMS = ("enabled", "strategy", "depth", "epochs", "lr", "layer_decay", "augment", "flip", "seed")
EPOCHS, LEARNING_RATE = 4, 3e-4


def fine_tune_objects(dataset_folder: Path, head: Path, model: Path, params: FineTuneParams, log: Log) -> Metrics:
    """Train upper groups in stages; each is kept only if it helps on the validation photos."""
    dataset, bundle = ObjectDataset.open(dataset_folder), DetectorBundle.load(head)
    refuse_others("fine_tune", params, USED_PARAMS, "instances")
    if params.augment not in ("auto", "none"):
        raise ParamsError(f"fine_tune.augment={params.augment!r}: task instances has auto (mirrored photos) and none")
    make_trainer = partial(DetectorTrainer, dataset, bundle, params)
    return fine_tune_bundle(bundle, dataset, make_trainer, "score", model, params, log)


class DetectorTrainer(StageTrainer[Detector]):
    """Trains on photos and their mirror images."""

    metric, stage = "F1", DetectorStage

    def __init__(self, dataset: ObjectDataset, bundle: DetectorBundle, params: FineTuneParams) -> None:
        self.dataset, self.bundle, self.params = dataset, bundle, params

    def measure(self, network: Detector) -> Measured:
        """Return F1 of every validation photo's objects at the score that suits the model best, and that score."""
        dataset, bundle = self.dataset, DetectorBundle(self.bundle.spec, network)
        rows = dataset.rows("val")
        answers = list(bundle.answers((dataset.photos[int(row)] for row in rows), "fine_tune", len(rows)))
        matches = match([dataset.objects(int(row)) for row in rows], answers, len(bundle.spec.labels))
        found = best_score(matches)
        score = bundle.spec.score if found is None else found
        return Measured(counts_at(matches, score).f1, {"score": score})

    def train(self, network: Detector, groups: tuple[str, ...], checkpoint: Checkpoint | None) -> list[float]:
        """Train the heads and some groups in place; return the mean loss of every epoch."""
        dataset, params = self.dataset, self.params
        epochs = EPOCHS if params.epochs == "auto" else params.epochs
        rate = LEARNING_RATE if params.lr == "auto" else params.lr
        transform = network.backbone.spec.transform
        by_depth = network.unfreeze(groups, rate, params.layer_decay)

        def loss_of(row: int, mirrored: bool) -> torch.Tensor:
            pixels, fit = prepared(dataset.photos[row], transform)
            maps = network.maps(padded(pixels.flip(-1) if mirrored else pixels, transform, fit)[None])
            return network.heads.losses(maps, fit, target_of(dataset.objects(row), fit, mirrored=mirrored))

        schedule = Schedule(epochs, params.seed, flip=params.augment == "auto", what="fine_tune")
        losses = train(network, by_depth, dataset.rows("train"), loss_of, schedule, checkpoint)
        network.freeze()
        return losses
