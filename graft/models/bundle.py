"""ModelBundle: a trained classifier as one self-contained folder.

- `bundle.json`: labels, backbone, transform, head, how it was trained (see `bundle_spec`);
- `backbone.safetensors`: the kept groups of the backbone;
- `head.safetensors`: the output layer;
- `start.safetensors`: the rows of the source classifier that the output layer was pulled to, if any;
- `trust.safetensors`: when to abstain (see `stats.abstention`), if that was fitted;
- `validation.safetensors`: the model's logits for the validation images from before it was refit on them, if it was
  (see `validation_logits`);
- `moments.safetensors`: number, mean and variance of every class's features (see `heads.class_moments`);
- `sample.safetensors`: the features of some training images (see `heads.feature_sample`);
- `renormed/`: the head that adaptation to another domain starts its second view from (see `renormed_head`);
- `second_norms.safetensors`, `second_head.safetensors`: BatchNorm statistics and output layer of the second view of a
  model that was adapted to another domain (see `two_views`);
- of several tasks, `heads/<task>.safetensors`: the output layer of each after the first, and `heads/<task>/`: its
  `bundle.json`, `trust.safetensors` and so on, as above.

`continual.state` keeps what the model learnt from in three more files. No pickle: loading a bundle cannot run code.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import safetensors.numpy
import safetensors.torch
import torch
from torch import nn

from graft.backbones.backbone import Backbone
from graft.backbones.bn_folding import for_inference
from graft.backbones.from_tensors import artifact_tensors, from_tensors
from graft.core.artifact import read_spec
from graft.core.atomic import replacing, write_json
from graft.core.boundary import readable
from graft.core.errors import ModelError
from graft.core.progress import progress
from graft.core.tensors import read_arrays
from graft.heads.class_moments import ClassMoments
from graft.heads.feature_sample import FeatureSample
from graft.heads.linear_probe import Linear
from graft.imaging.transform import Transform
from graft.models import description
from graft.models.bundle_files import head_file, task_folder
from graft.models.bundle_spec import BundleSpec
from graft.models.classifier import Classifier, Head
from graft.models.classifier_files import read_classifier, write_classifier, write_tensors
from graft.models.prediction_table import OnError, predict
from graft.models.renormed_head import RenormedHead
from graft.models.task_heads import with_all_heads
from graft.models.validation_logits import ValidationLogits
from graft.stats.abstention import ABSTENTION_FILE, Abstention
from graft.stats.decision_rule import Rule
from graft.tasks.task import Task

SPEC_FILE, START_FILE = "bundle.json", "start.safetensors"
BATCH = 16


@dataclass(frozen=True)
class ModelBundle:
    """A classifier ready to predict."""

    spec: BundleSpec
    classifier: Classifier
    abstention: Abstention | None = None
    """When to abstain; None if that was not fitted."""
    validation: ValidationLogits | None = None
    """Logits of the validation images from before the model was refit on them: unbiased predictions, which the model
    itself can no longer give. None if it never saw them."""
    start: Linear | None = None
    """The rows of the source classifier that the head was pulled to; a refit pulls it to them again."""
    moments: ClassMoments | None = None
    """Moments of the head's features for the images that it was fitted to. None in bundles of earlier versions, and for
    tasks in which an image is not of exactly one class."""
    sample: FeatureSample | None = None
    """The head's features for some of these images; None where `moments` are."""
    renormed: RenormedHead | None = None
    """Where adaptation starts the second view of another domain. None: from the model's own head."""
    rule: Rule | None = None
    """The threshold from which on the positive one of two classes is the answer. None: the most probable class is. A
    bundle read from its own folder has none; a registered model may bring one (see `loading`)."""
    origin: str = field(default="", compare=False)
    """The folder, or the address and the store, that it was loaded from."""
    further: "tuple[ModelBundle, ...]" = ()
    """What heads on the same backbone have learnt of other tasks, one bundle each."""

    def __repr__(self) -> str:
        return description.text(self)

    def _repr_html_(self) -> str:
        return description.html(self)

    @classmethod
    def load(cls, path: Path | str) -> "ModelBundle":
        """Read a bundle.

        Raises:
            ModelError: if the folder has no bundle, or its files do not belong together.
        """
        path = Path(path)
        spec = read_spec(
            path / SPEC_FILE, BundleSpec, content="model", step="train_head or fine_tune", error=ModelError
        )
        try:
            classifier = read_classifier(path, spec.backbone, spec.head, len(spec.labels), two_views=spec.two_views)
        except (KeyError, RuntimeError, ValueError) as error:
            raise ModelError(f"{path}: the tensors do not belong to {SPEC_FILE} ({str(error)[:200]})") from error
        further = tuple(cls._load_further(path, classifier.backbone, task.name) for task in spec.further_tasks)
        return replace(cls._with_records(spec, classifier, path), further=further)

    @classmethod
    def _load_further(cls, path: Path, backbone: Backbone, name: str) -> "ModelBundle":
        """Read the head of a further task on the same backbone."""
        folder = task_folder(path, name)
        spec = read_spec(folder / SPEC_FILE, BundleSpec, content="head", step="train_head", error=ModelError)
        try:
            tensors = artifact_tensors(head_file(path, name))
            head = from_tensors(lambda: Head(spec.head, len(spec.labels)), tensors)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{folder}: the tensors do not belong to {SPEC_FILE} ({str(error)[:200]})") from error
        return cls._with_records(spec, Classifier(backbone, head), folder)

    @classmethod
    def _with_records(cls, spec: BundleSpec, classifier: Classifier, path: Path) -> "ModelBundle":
        """Return a classifier with what else is known of it, from the files in `path`."""
        abstention = Abstention.load(path) if (path / ABSTENTION_FILE).is_file() else None
        validation, start = ValidationLogits.load(path), _read_start(path / START_FILE)
        moments = ClassMoments.load(path, (len(spec.labels), spec.head.features))
        sample = FeatureSample.load(path, spec.head.features)
        renormed = RenormedHead.load(path, spec.head, len(spec.labels))
        return cls(spec, classifier.eval(), abstention, validation, start, moments, sample, renormed, origin=str(path))

    def save(self, path: Path) -> None:
        """Write the bundle atomically."""
        with replacing(path) as folder:
            folder.mkdir(parents=True)
            write_classifier(self.classifier, folder)
            self._save_records(folder)
            for other in self.further:
                place = task_folder(folder, other.task.name)
                place.mkdir(parents=True)
                write_tensors(head_file(folder, other.task.name), other.classifier.head.state_dict())
                other._save_records(place)

    def _save_records(self, folder: Path) -> None:
        """Write everything but the network."""
        write_json(folder / SPEC_FILE, self.spec.model_dump(mode="json"))
        if self.abstention:
            self.abstention.save(folder)
        if self.validation is not None:
            self.validation.save(folder)
        if self.start:
            rows = {"weight": self.start.weight, "bias": self.start.bias}
            (folder / START_FILE).write_bytes(safetensors.numpy.save(rows))
        if self.moments:
            self.moments.save(folder)
        if self.sample:
            self.sample.save(folder)
        if self.renormed:
            self.renormed.save(folder)

    @property
    def task(self) -> Task:
        """What was learnt; of several tasks, the first."""
        return self.spec.task

    @property
    def prior_shares(self) -> tuple[float, ...]:
        """How far the head of each task that is trained here was corrected for label weights."""
        return (self.spec.prior_share,)

    @property
    def by_task(self) -> "tuple[ModelBundle, ...]":
        """A bundle for each task, the first one first; they share the backbone."""
        return (replace(self, further=()), *self.further)

    @property
    def transform(self) -> Transform:
        """The preprocessing of an image for the backbone."""
        return self.spec.backbone.transform

    @property
    def backbone(self) -> Backbone:
        """The reused part of the pretrained network."""
        return self.classifier.backbone

    @property
    def labels_by_task(self) -> dict[str, tuple[str, ...]] | None:
        """Labels of each task by its name; None if there is one task."""
        return {one.task.name: tuple(one.spec.labels) for one in self.by_task} if self.further else None

    @property
    def all_heads(self) -> Classifier:
        """The classifier with the heads of all tasks: their logits side by side."""
        return with_all_heads([bundle.classifier for bundle in self.by_task])

    def module(self) -> nn.Module:
        """Return the network in eval mode: normalised float32 (B, N, S, S) to logits (B, C), without temperature."""
        return self.classifier.eval()

    def logits(
        self, images: Iterable[bytes], what: str = "predict", total: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Return the logits (n, C) of image files, streamed in small batches.

        Raises:
            DataError: naming the position of an image that cannot be decoded.
        """
        nothing = np.zeros((0, len(self.spec.labels)), np.float32)
        return np.concatenate([nothing, *(logits for logits, _ in self.stream(images, what, total))])

    def logits_and_features(
        self, images: Iterable[bytes], what: str = "predict", total: int | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the logits (n, C) of image files and the features (n, D) that the head reads.

        Raises:
            DataError: naming the position of an image that cannot be decoded.
        """
        logits = [np.zeros((0, len(self.spec.labels)), np.float32)]
        features = [np.zeros((0, self.classifier.head.spec.features), np.float32)]
        for batch_logits, batch_features in self.stream(images, what, total):
            logits.append(batch_logits)
            features.append(batch_features)
        return np.concatenate(logits), np.concatenate(features)

    def stream(
        self, images: Iterable[bytes], what: str = "predict", total: int | None = None
    ) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        """Yield the logits (k, C) of image files and the features (k, D) that the head reads, batch by batch.

        Raises:
            DataError: naming the position of an image that cannot be decoded.
        """
        blank = self.transform.normalise(torch.zeros(1, *self.transform.shape, dtype=torch.uint8))
        classifier = for_inference(self.classifier, blank)
        with ThreadPoolExecutor(2) as pool:
            pixels = progress(_in_order(pool, self.transform, images), what, total)
            while batch := list(islice(pixels, BATCH)):
                with torch.inference_mode():
                    prepared = self.transform.normalise(torch.stack(batch))
                    features = classifier.features(prepared.contiguous(memory_format=torch.channels_last))
                    logits = classifier.head(features)
                yield logits.numpy(), features.numpy()

    def probabilities(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return calibrated probabilities (n, C) of logits (n, C)."""
        return self.task.probabilities(logits, self.spec.temperature)

    def predict(self, images: Any, errors: OnError | None = None) -> pd.DataFrame:
        """Classify images: one or many, in any form.

        Args:
            images: a path, a folder, a pattern, the content of a file, an open file, a PIL image, a uint8 array
                (H, W[, channels]) or tensor, a table with a column `image` or `path`, or any iterable of these, which
                is read as it goes.
            errors: what an image without an answer does: it gets a `row` with its error, or the call `raise`s. None:
                `raise` if a single image is asked about, else `row`.

        Returns:
            One row per image: `path` (or its place), `label`, `confidence`, with `abstention` also `set`, `abstain` and
            `ood`, then `p:<label>` for each label, and `error`; see `prediction_table`. The probabilities are also
            under the labels themselves; those columns will go with the next version.

        Raises:
            DataError: if it is nothing that can be asked about, or naming the image that cannot be read.
        """
        return predict(self, images, errors)


def _read_start(file: Path) -> Linear | None:
    if not file.is_file():
        return None
    rows = read_arrays(file, "weight", "bias")
    with readable(file, "train the model again", ModelError):
        return Linear.of_raw(rows["weight"], rows["bias"])


def _in_order(pool: ThreadPoolExecutor, transform: Transform, images: Iterable[bytes]) -> Iterator[torch.Tensor]:
    """Decode on the pool's threads, a few images ahead of the consumer."""
    source = iter(images)
    while chunk := list(islice(source, 4 * BATCH)):
        yield from pool.map(transform.pixels, chunk)
