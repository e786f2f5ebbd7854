"""DetectorBundle: a model that finds objects and their masks, as one self-contained folder.

Beside what every model about pixels has, `bundle.json` holds the score from which answers count, and
`heads.safetensors` the pyramid, the proposals and the predictors.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from graft.core.progress import progress
from graft.dense.ahead import ahead
from graft.dense.dense_bundle import DenseBundle, DenseSpec, Stage, read_bundle
from graft.detectors.answers import objects_of
from graft.detectors.detector import Detector, Heads
from graft.detectors.photo_pixels import padded, prepared
from graft.objects.instance import Instance

DEFAULT_SCORE = 0.5
AHEAD = 4


class DetectorStage(Stage):
    """A stage that is judged by objects."""

    start_f1: float
    f1: float
    """Mean F1 of the validation photos' objects, before and after, each at the score that suits it best."""


class DetectorSpec(DenseSpec):
    """The content of `bundle.json`; the transform's size is that of a photo's short side."""

    score: float = DEFAULT_SCORE
    """Answers of at least this score count: where F1 of the validation photos' objects is highest."""
    score_photos: int = 0
    """Validation photos that chose it; 0: it was not chosen."""
    train_loss: tuple[float, ...] = ()
    stages: tuple[DetectorStage, ...] = ()
    coco: bool = False
    """Whether the heads are those of torchvision's detector, taken over from COCO weights."""


def _heads(spec: DetectorSpec, tensors: Mapping[str, torch.Tensor]) -> Heads:
    heads = Heads(spec.channels, len(spec.labels), spec.backbone.transform.size, coco=spec.coco)
    heads.load_state_dict(tensors)
    return heads


@dataclass(frozen=True)
class DetectorBundle(DenseBundle[DetectorSpec, Detector]):
    """A model of objects ready to predict; photos keep their shape, see `photo_pixels`."""

    HEAD_FILE: ClassVar[str] = "heads.safetensors"

    @classmethod
    def load(cls, path: Path | str) -> "DetectorBundle":
        """Read a bundle.

        Raises:
            ModelError: if the folder has none, or its files do not belong together.
        """
        spec, backbone, heads = read_bundle(Path(path), DetectorSpec, "model of objects", cls.HEAD_FILE, _heads)
        return cls(spec, Detector(backbone, spec.levels, heads).eval())

    def answers(
        self, photos: Iterable[bytes], what: str = "predict", total: int | None = None
    ) -> Iterator[tuple[Instance, ...]]:
        """Yield the objects of every photo, whatever their score, the surest first.

        Raises:
            DataError: if one cannot be decoded.
        """
        for objects, _ in self.sized_answers(photos, what, total):
            yield objects

    def sized_answers(
        self, photos: Iterable[bytes], what: str = "predict", total: int | None = None
    ) -> Iterator[tuple[tuple[Instance, ...], tuple[int, int]]]:
        """Yield the objects of every photo with the photo's height and width.

        Raises:
            DataError: if one cannot be decoded.
        """
        network = self.network.eval()
        photos_ahead = ahead(lambda photo: prepared(photo, self.transform), photos, AHEAD)
        for pixels, fit in progress(photos_ahead, what, total, unit="photos"):
            with torch.inference_mode():
                maps = network.maps(padded(pixels, self.transform, fit)[None])
                found = network.heads.detect(maps, fit)
            yield objects_of(found, fit), (fit.photo_height, fit.photo_width)

    def kept(self, objects: Iterable[Instance]) -> tuple[Instance, ...]:
        """Return the objects whose score counts."""
        return tuple(one for one in objects if one.score >= self.spec.score)
