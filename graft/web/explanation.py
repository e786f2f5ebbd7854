"""Why the model answers as it does: where it looked, and which training images look alike to its backbone.

The network of a packed model is a compiled program without inner layers, so the bundle inside the version is loaded for
the heat map, at the first question. The nearest images need the features and images of the run that made the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
import torch

from graft.backbones.backbone import Backbone, load_backbone
from graft.backbones.feature_store import FeatureStore
from graft.core.errors import GraftError
from graft.data.dataset import ImageDataset
from graft.evaluation.gallery import Neighbour, data_uri, resize, thumbnail
from graft.evaluation.grad_cam import attention_maps, nearest, overlay
from graft.imaging.multichannel import as_rgb
from graft.models.bundle import ModelBundle
from graft.models.classifier import Classifier, tap_features
from graft.models.two_views import TwoViews
from graft.runs.step_outputs import latest_output
from graft.serving.limits import Admission
from graft.serving.packaging import BUNDLE
from graft.tasks.task import Task

MAP_SIDE, NEIGHBOUR_SIDE, NEIGHBOURS = 336, 112, 4


@dataclass(frozen=True)
class TrainingImages:
    """The training images of a run, and their features by the frozen backbone."""

    dataset: ImageDataset
    store: FeatureStore

    @classmethod
    def of_run(cls, run: Path, data_digest: str) -> "TrainingImages | None":
        """Return those of a run's output folder; None unless it has them, and they are the data with this digest."""
        dataset = latest_output(run, "validate-data", "dataset")
        features = latest_output(run, "extract-features", "features")
        if dataset is None or features is None:
            return None
        try:
            found = cls(ImageDataset.read(dataset), FeatureStore.read(features))
        except (GraftError, OSError):
            return None
        same = data_digest == found.dataset.spec.digest == found.store.spec.dataset_digest
        return found if same else None

    @cached_property
    def _backbone(self) -> Backbone:
        return load_backbone(self.store.backbone_folder).eval()

    def nearest(self, content: bytes, taps: Sequence[str], task: Task, admission: Admission) -> list[Neighbour]:
        """Return the training images of a task with the most similar features at these taps; none if not kept.

        Raises:
            DataError: if `content` is not an image.
        """
        if not set(taps) <= set(self.store.taps):
            return []
        transform = self._backbone.spec.transform
        with admission.decoding(content, transform) as limited:
            image = limited.pixels(content)
        with torch.inference_mode():
            pixels = transform.normalise(image[None])
            features = tap_features(self._backbone, tuple(taps), pixels).numpy()
        dataset = self.dataset.of_task(task)
        train = dataset.labelled("train")
        order = nearest(features, self.store.mapped(taps, train), NEIGHBOURS)[0]
        names, reader = task.names(dataset.targets()[train]), dataset.reader()
        channels = self.dataset.spec.channels
        return [
            Neighbour(
                path=str(self.dataset.table["path"].iloc[train[place]]),
                label=names[place],
                picture=data_uri(thumbnail(reader[int(train[place])], NEIGHBOUR_SIDE, channels)),
            )
            for place in order
        ]


class Explainer:
    """Heat maps and nearest training images for one packed model."""

    def __init__(self, folder: Path, training: TrainingImages | None) -> None:
        self._folder = folder
        self._training = training
        self._admission = Admission()
        self._one_at_a_time = Lock()  # a map keeps the gradients of all layers in memory

    @cached_property
    def _bundle(self) -> ModelBundle:
        return ModelBundle.load(self._folder / "artifacts" / BUNDLE)

    def heat_map(self, content: bytes, label: str, task: str | None = None) -> str | None:
        """Return what the model saw with the evidence for a label in bright colours, a data URI.

        The label is one of the named task; None: of the first.

        None if the model has no such layer, as with a backbone of very small images.

        Raises:
            DataError: if `content` is not an image.
            ModelError: if the version's bundle cannot be read.
        """
        with self._one_at_a_time:
            bundle = self._of(task)
            with self._admission.decoding(content, bundle.transform) as limited:
                pixels = limited.pixels(content)
            target = np.array([bundle.spec.labels.index(label)])
            maps = attention_maps(_one_view(bundle.classifier), bundle.transform.normalise(pixels[None]), target)
        if maps is None:
            return None
        return data_uri(overlay(resize(as_rgb(pixels.permute(1, 2, 0).numpy()), MAP_SIDE), maps[0]))

    def nearest(self, content: bytes, task: str | None = None) -> list[Neighbour]:
        """Return the training images that look alike to the backbone; none if the run is not at hand.

        They have the labels of the named task; None: of the first.

        Raises:
            DataError: if `content` is not an image.
        """
        if self._training is None:
            return []
        with self._one_at_a_time:
            one = self._of(task)
            return self._training.nearest(content, one.spec.head.taps, one.task, self._admission)

    def _of(self, task: str | None) -> ModelBundle:
        """Return the model of one task."""
        return next((one for one in self._bundle.by_task if one.task.name == task), self._bundle.by_task[0])


def _one_view(classifier: Classifier) -> Classifier:
    """Return the classifier, or of one with two views the one with the source's statistics."""
    if isinstance(classifier, TwoViews):
        return Classifier(classifier.backbone, classifier.head.first).eval()
    return classifier
