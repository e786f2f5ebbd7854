"""ModelBundle: a trained classifier as one folder that says everything about itself.

- `bundle.json`: labels, backbone, transform, head, what was trained on what (see `bundle_spec`);
- `backbone.safetensors`: the kept groups of the backbone;
- `head.safetensors`: the output layer;
- `start.safetensors`: the rows of the source classifier that the output layer is pulled to, if it is;
- `trust.safetensors`: when to believe an answer (see `trust`), if that has been fitted;
- `validation.safetensors`: what the model said of the validation images before it was refit with them, if it was.

No pickle: nothing in a bundle can run code when it is loaded.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import safetensors.numpy
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from graft.backbones.backbone import Backbone, empty_backbone
from graft.backbones.bn_folding import for_inference
from graft.core.artifact import read_spec
from graft.core.atomic import replacing, write_json
from graft.core.errors import DataError, ModelError
from graft.core.progress import progress
from graft.heads.linear_probe import Linear
from graft.imaging.decode import load
from graft.imaging.multichannel import from_picture
from graft.imaging.transform import Transform
from graft.models.bundle_spec import BundleSpec
from graft.models.classifier import Classifier, Head
from graft.stats.abstention import TRUST_FILE, Trust
from graft.stats.decision_rule import Rule, abstains_from
from graft.tasks.task import Task

SPEC_FILE, BACKBONE_FILE, HEAD_FILE = "bundle.json", "backbone.safetensors", "head.safetensors"
VALIDATION_FILE, START_FILE = "validation.safetensors", "start.safetensors"
BATCH = 16


@dataclass(frozen=True)
class ModelBundle:
    """A classifier ready to predict."""

    spec: BundleSpec
    classifier: Classifier
    trust: Trust | None = None
    """When to believe an answer."""
    validation: npt.NDArray[np.float32] | None = None
    """Logits (n, C) of the validation images, in the dataset's order, by the model before it was refit with them: an
    honest answer, which the model itself can no longer give. None if it never saw them."""
    start: Linear | None = None
    """The rows of the source classifier that the head was pulled to, and is again when it is fitted anew."""
    rule: Rule | None = None
    """From when on the positive one of two classes is answered. None: the most probable class is, as by every bundle
    that is read from its own folder; a registered model may bring one (see `loading`)."""

    @classmethod
    def load(cls, path: Path | str) -> "ModelBundle":
        """Read a bundle.

        Raises:
            ModelError: if the folder holds none, or its files do not belong together.
        """
        path = Path(path)
        spec = read_spec(
            path / SPEC_FILE, BundleSpec, content="model", step="train_head or fine_tune", error=ModelError
        )
        classifier = Classifier(empty_backbone(spec.backbone), Head(spec.head, len(spec.labels)))
        try:
            classifier.backbone.load_state_dict(safetensors.torch.load_file(path / BACKBONE_FILE))
            classifier.head.load_state_dict(safetensors.torch.load_file(path / HEAD_FILE))
        except (OSError, RuntimeError) as error:
            raise ModelError(f"{path}: the tensors do not belong to {SPEC_FILE} ({str(error)[:200]})") from error
        trust = Trust.load(path) if (path / TRUST_FILE).is_file() else None
        validation = path / VALIDATION_FILE
        logits = safetensors.numpy.load_file(validation)["logits"] if validation.is_file() else None
        return cls(spec, classifier.eval(), trust, logits, _read_start(path / START_FILE))

    def save(self, path: Path) -> None:
        """Write the bundle, all of it or nothing."""
        with replacing(path) as folder:
            folder.mkdir(parents=True)
            write_json(folder / SPEC_FILE, self.spec.model_dump(mode="json"))
            for module, name in ((self.classifier.backbone, BACKBONE_FILE), (self.classifier.head, HEAD_FILE)):
                tensors = {key: tensor.detach().contiguous() for key, tensor in module.state_dict().items()}
                (folder / name).write_bytes(safetensors.torch.save(tensors))
            if self.trust:
                self.trust.save(folder)
            if self.validation is not None:
                (folder / VALIDATION_FILE).write_bytes(safetensors.numpy.save({"logits": self.validation}))
            if self.start:
                rows = {"weight": self.start.weight, "bias": self.start.bias}
                (folder / START_FILE).write_bytes(safetensors.numpy.save(rows))

    @property
    def task(self) -> Task:
        """What was learnt."""
        return self.spec.task

    @property
    def transform(self) -> Transform:
        """What an image goes through before the backbone sees it."""
        return self.spec.backbone.transform

    @property
    def backbone(self) -> Backbone:
        """The reused part."""
        return self.classifier.backbone

    def module(self) -> nn.Module:
        """Return the network in eval mode: normalised float32 (B, N, S, S) to logits (B, C), not yet scaled."""
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
        features = [np.zeros((0, self.spec.head.features), np.float32)]
        for said, read in self.stream(images, what, total):
            logits.append(said)
            features.append(read)
        return np.concatenate(logits), np.concatenate(features)

    def stream(
        self, images: Iterable[bytes], what: str = "predict", total: int | None = None
    ) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        """Yield the logits (k, C) of image files and the features (k, D) that the head reads, some images at a time.

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
                    read = classifier.features(prepared.contiguous(memory_format=torch.channels_last))
                    logits = classifier.head(read)
                yield logits.numpy(), read.numpy()

    def probabilities(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return calibrated probabilities (n, C) of logits (n, C)."""
        return self.task.probabilities(logits, self.spec.temperature)

    def predict(self, images: Sequence[Any]) -> pd.DataFrame:
        """Classify images given as paths, file contents (bytes), PIL images or uint8 arrays (H, W, channels).

        Returns:
            One row per image: the columns of the task's answer, `label` and `confidence` (see `Task.columns`), and one
            column per label with its probability. With `trust`, between them: `set` (the plausible labels), `abstain`
            (whether no answer should be given) and `ood` (the out-of-distribution score; above 1 the image is unlike
            the training images).

        Raises:
            DataError: naming the image that cannot be read.
        """
        pixels = [self._pixels(image, position) for position, image in enumerate(images)]
        features = np.zeros((0, self.spec.head.features), np.float32)
        classifier = self.classifier.eval()
        with torch.inference_mode():
            batches = [torch.stack(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
            read = [classifier.features(self.transform.normalise(batch)).numpy() for batch in batches]
            features = np.concatenate([features, *read])
            logits = classifier.head(torch.from_numpy(features)).numpy()
        return self._table(self.probabilities(logits), features)

    def _table(self, probabilities: npt.NDArray[np.float64], features: npt.NDArray[np.float32]) -> pd.DataFrame:
        labels = self.spec.labels
        columns: dict[str, Any] = dict(self.task.columns(probabilities, self.rule))
        if self.trust:
            judged = self.trust.judge(probabilities, features)
            chosen = self.task.answers(probabilities, self.rule).chosen
            sets = [tuple(labels[index] for index in np.flatnonzero(row)) for row in judged.sets]
            columns["set"] = pd.Series(sets, dtype=object)
            columns["abstain"] = abstains_from(chosen, judged.sets, judged.abstain)
            columns["ood"] = judged.ood
        return pd.concat([pd.DataFrame(columns), pd.DataFrame(probabilities, columns=list(labels))], axis=1)

    def _pixels(self, image: Any, position: int) -> torch.Tensor:
        try:
            if isinstance(image, str | Path):
                return self.transform.pixels(Path(image).read_bytes())
            if isinstance(image, Image.Image):
                return self.transform.pixels(from_picture(load(image), self.transform.channels))
            return self.transform.pixels(image)
        except (DataError, OSError) as error:
            name = str(image) if isinstance(image, str | Path) else f"image {position}"
            raise DataError(f"{name}: {error}") from error


def _read_start(file: Path) -> Linear | None:
    if not file.is_file():
        return None
    rows = safetensors.numpy.load_file(file)
    return Linear.of_raw(rows["weight"], rows["bias"])


def _in_order(pool: ThreadPoolExecutor, transform: Transform, images: Iterable[bytes]) -> Iterator[torch.Tensor]:
    """Decode on the pool's threads, a few images ahead of the reader."""
    source = iter(images)
    while chunk := list(islice(source, 4 * BATCH)):
        yield from pool.map(transform.pixels, chunk)
