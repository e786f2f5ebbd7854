"""The baseline for pretraining: the same backbone with random weights, frozen, with a linear head on its last group."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from graft.backbones.backbone import Backbone, BackboneSpec, build_backbone
from graft.backbones.extraction import folded_copy, pixel_loader, run_batches, worker_count
from graft.core.progress import progress
from graft.data.dataset import ImageDataset
from graft.data.records import Split
from graft.heads.cross_validation import cross_validate, judged_rows, make_folds
from graft.heads.families import family
from graft.stats.metrics import Values
from graft.stats.subsampling import sample
from graft.tasks.task import Task

NO_WEIGHTS = "none"
TRAIN_IMAGES, TEST_IMAGES = 500, 250
"""About so many images tell whether pretraining helps: random features gain little from more."""
TRAIN_PER_CLASS = 2
FOLDS = 3
BATCH = 8

Ints = npt.NDArray[np.int64]
Array32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Untrained:
    """What a head on random features predicts, for a sample of the test images."""

    test: Ints
    """Rows of the dataset (k,), ascending."""
    probabilities: Values
    """(k, C)."""
    trained_on: int
    """Number of training images that the head was fitted to."""


@dataclass
class UntrainedBackbone:
    """The same backbone with random weights; each image that a task asks for goes through it once.

    Args:
        images: the dataset, of all tasks.
        backbone: the pretrained one, for architecture and input.
        seed: of the random weights, the samples and the folds.
        every_image: use all training and test images instead of samples.
    """

    images: ImageDataset
    backbone: BackboneSpec
    seed: int
    every_image: bool = False
    _features: dict[int, Array32] = field(default_factory=dict)

    def predict(self, task: Task) -> Untrained | None:
        """Return the predictions of a linear head on the last group; None if the pretrained weights are random too.

        The penalty is cross-validated on the training images. The random backbone is not trained, so this measures the
        value of pretrained features, not what training from scratch would reach.
        """
        if self.backbone.weights.source == NO_WEIGHTS:
            return None
        images = self.images.of_task(task)
        targets, groups = images.targets(), images.table["group"].astype(str).to_numpy(dtype=object)

        def chosen(split: Split, most: int, per_class: int) -> Ints:
            rows = images.labelled(split)
            if self.every_image:
                return rows
            strata = task.strata(targets[rows])
            return rows[sample(strata, groups[rows], most, f"{self.seed} random init", per_class)]

        train, test = chosen("train", TRAIN_IMAGES, TRAIN_PER_CLASS), chosen("test", TEST_IMAGES, 1)
        features = self.features(np.concatenate([train, test]))
        known, asked = features[: len(train)], features[len(train) :]
        strata = task.strata(targets[train])
        folds = make_folds(strata, groups[train], FOLDS, self.seed)
        judged = judged_rows(strata, folds) if task.exclusive else None
        compared = cross_validate(known, targets[train], task, folds, judged=judged)
        head = family("linear").fit_at(compared.penalty, known, targets[train], task, [known.shape[1]])
        return Untrained(test, task.probabilities(head.logits(asked), compared.fit_temperature()), len(train))

    def features(self, rows: Ints) -> Array32:
        """Return the pooled features (n, D) of the last group."""
        new = np.array([row for row in dict.fromkeys(rows.tolist()) if row not in self._features], dtype=np.int64)
        if len(new):
            found = _features(self.images, _random(self.backbone, self.seed), new)
            self._features.update(zip(new.tolist(), found, strict=True))
        return np.stack([self._features[row] for row in rows.tolist()])


def _random(spec: BackboneSpec, seed: int) -> Backbone:
    transform = spec.transform
    return build_backbone(
        spec.architecture,
        NO_WEIGHTS,
        image_size=transform.size,
        channels=transform.channels,
        max_pixels=transform.max_pixels,
        value_range=transform.value_range,
        stem=spec.stem,
        mean=transform.mean,
        std=transform.std,
        seed=seed,
    )


def _features(images: ImageDataset, backbone: Backbone, rows: Ints) -> Array32:
    """Return the pooled features (n, D) of the last group."""
    transform = backbone.spec.transform
    network = folded_copy(backbone, lambda chosen, batch: chosen(batch))

    def forward(pixels: torch.Tensor) -> Array32:
        with torch.inference_mode():
            found: Array32 = network(transform.normalise(pixels).contiguous(memory_format=torch.channels_last)).numpy()
        return found

    pixels, items = pixel_loader(transform, images), rows.tolist()
    batches = run_batches(forward, pixels, items, batch_size=BATCH, workers=worker_count("auto"))
    shown = progress(batches, "evaluate: random weights", -(-len(items) // BATCH), unit="batches")
    return np.concatenate([found for _, found in shown])
