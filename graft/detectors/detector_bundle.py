"""DetectorBundle: a model that finds objects and their masks, as one self-contained folder.

- `bundle.json`: kinds of object, backbone, transform, how it was trained, the score from which answers count;
- `backbone.safetensors`: the kept groups of the backbone;
- `heads.safetensors`: the pyramid, the proposals and the predictors.

No pickle: loading a bundle cannot run code.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict

from graft.backbones.backbone import BackboneSpec, untrained_backbone
from graft.backbones.from_tensors import artifact_tensors, from_tensors
from graft.core.artifact import read_spec
from graft.core.atomic import replacing, write_json
from graft.core.errors import ModelError
from graft.core.progress import progress
from graft.decoders.map_choice import MapScore
from graft.detectors.answers import objects_of
from graft.detectors.detector import Detector, Heads
from graft.detectors.photo_pixels import Fit, padded, prepared
from graft.imaging.transform import Transform
from graft.objects.instance import Instance
from graft.tasks.pixels import PixelTask

SPEC_FILE, BACKBONE_FILE, HEADS_FILE = "bundle.json", "backbone.safetensors", "heads.safetensors"
DEFAULT_SCORE = 0.5
AHEAD = 4


class DetectorStage(BaseModel):
    """The result of one stage of fine-tuning, and whether it was kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    groups: tuple[str, ...]
    epochs: int
    start_f1: float
    f1: float
    """Mean F1 of the validation photos' objects, before and after, each at the score that suits it best."""
    gain: float
    error: float
    """Increase of that mean and its standard error, over groups of photos."""
    train_loss: tuple[float, ...]
    kept: bool
    reason: str
    seconds: float


class DetectorSpec(BaseModel):
    """The content of `bundle.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    task: PixelTask
    labels: tuple[str, ...]
    backbone: BackboneSpec
    """Of the kept groups; the transform's size is that of a photo's short side."""
    source_groups: tuple[str, ...]
    """All groups of the source network."""
    levels: tuple[str, ...]
    """Groups whose maps the pyramid reads, the finest first."""
    channels: tuple[int, ...]
    """Channels of these maps."""
    dataset_digest: str
    score: float = DEFAULT_SCORE
    """Answers of at least this score count: where F1 of the validation photos' objects is highest."""
    score_photos: int = 0
    """Validation photos that chose it; 0: it was not chosen."""
    epochs: int = 0
    train_loss: tuple[float, ...] = ()
    seed: int = 0
    curve: tuple[MapScore, ...] = ()
    """What linear probes of single pixels tell of the maps: no object, or which kind."""
    stages: tuple[DetectorStage, ...] = ()
    untried: str = ""
    trained_groups: tuple[str, ...] = ()
    coco: bool = False
    """Whether the heads are those of torchvision's detector, taken over from COCO weights."""


@dataclass(frozen=True)
class DetectorBundle:
    """A model of objects ready to predict."""

    spec: DetectorSpec
    network: Detector

    @classmethod
    def load(cls, path: Path | str) -> "DetectorBundle":
        """Read a bundle.

        Raises:
            ModelError: if the folder has none, or its files do not belong together.
        """
        path = Path(path)
        spec = read_spec(
            path / SPEC_FILE, DetectorSpec, content="model of objects", step="train_head", error=ModelError
        )
        read = artifact_tensors
        try:
            backbone = from_tensors(lambda: untrained_backbone(spec.backbone), read(path / BACKBONE_FILE))
            heads = Heads(spec.channels, len(spec.labels), spec.backbone.transform.size, coco=spec.coco)
            heads.load_state_dict(read(path / HEADS_FILE))
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{path}: the tensors do not belong to {SPEC_FILE} ({str(error)[:200]})") from error
        return cls(spec, Detector(backbone, spec.levels, heads).eval())

    def save(self, path: Path) -> None:
        """Write the bundle atomically."""
        parts = {BACKBONE_FILE: self.network.backbone.state_dict(), HEADS_FILE: self.network.heads.state_dict()}
        with replacing(path) as folder:
            folder.mkdir(parents=True)
            write_json(folder / SPEC_FILE, self.spec.model_dump(mode="json"))
            for name, state in parts.items():
                tensors = {key: tensor.detach().contiguous() for key, tensor in state.items()}
                (folder / name).write_bytes(safetensors.torch.save(tensors))

    @property
    def transform(self) -> Transform:
        """The preprocessing of a photo, see `photo_pixels`."""
        return self.spec.backbone.transform

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
        with ThreadPoolExecutor(2) as pool:
            for pixels, fit in progress(self._prepared(pool, iter(photos)), what, total, unit="photos"):
                with torch.inference_mode():
                    maps = network.maps(padded(pixels, self.transform, fit)[None])
                    found = network.heads.detect(maps, fit)
                yield objects_of(found, fit), (fit.photo_height, fit.photo_width)

    def kept(self, objects: Iterable[Instance]) -> tuple[Instance, ...]:
        """Return the objects whose score counts."""
        return tuple(one for one in objects if one.score >= self.spec.score)

    def _prepared(self, pool: ThreadPoolExecutor, photos: Iterator[bytes]) -> Iterator[tuple[torch.Tensor, Fit]]:
        while chunk := list(islice(photos, AHEAD)):
            yield from pool.map(lambda photo: prepared(photo, self.transform), chunk)
