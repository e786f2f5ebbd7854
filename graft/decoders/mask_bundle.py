"""MaskBundle: a model that gives every pixel a class, as one self-contained folder.

- `bundle.json`: classes, backbone, transform, decoder, how it was trained;
- `backbone.safetensors`: the kept groups of the backbone;
- `decoder.safetensors`: the decoder.

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
from torch import nn

from graft.backbones.backbone import Backbone, BackboneSpec, untrained_backbone
from graft.backbones.from_tensors import artifact_tensors, from_tensors
from graft.core.artifact import read_spec
from graft.core.atomic import replacing, write_json
from graft.core.errors import ModelError
from graft.core.progress import progress
from graft.decoders.answers import MaskAnswer, answer
from graft.decoders.decoder import Decoder
from graft.decoders.levels import Trunk
from graft.decoders.map_choice import MapScore
from graft.imaging.letterbox import Box, letterbox
from graft.imaging.transform import Transform
from graft.tasks.pixels import PixelTask

SPEC_FILE, BACKBONE_FILE, DECODER_FILE = "bundle.json", "backbone.safetensors", "decoder.safetensors"
BATCH = 8


class MaskStage(BaseModel):
    """The result of one stage of fine-tuning, and whether it was kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    groups: tuple[str, ...]
    epochs: int
    start_dice: float
    dice: float
    """Mean Dice coefficient of the validation photos, before and after."""
    gain: float
    error: float
    """Increase of that mean and its standard error, over groups of photos."""
    train_loss: tuple[float, ...]
    kept: bool
    reason: str
    seconds: float


class MaskBundleSpec(BaseModel):
    """The content of `bundle.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    task: PixelTask
    labels: tuple[str, ...]
    backbone: BackboneSpec
    """Of the kept groups."""
    source_groups: tuple[str, ...]
    """All groups of the source network."""
    levels: tuple[str, ...]
    """Groups whose maps the decoder reads, the finest first."""
    channels: tuple[int, ...]
    """Channels of these maps."""
    dataset_digest: str
    temperature: float = 1.0
    class_weight: str = "auto"
    epochs: int = 0
    seed: int = 0
    curve: tuple[MapScore, ...] = ()
    cv_iou: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Mean IoU of training photos by a decoder that had not seen them, with its 95 % interval."""
    stages: tuple[MaskStage, ...] = ()
    untried: str = ""
    trained_groups: tuple[str, ...] = ()


class MaskNetwork(nn.Module):
    """Backbone and decoder: normalised float32 (B, C, S, S) to logits (B, k, h, w) at the finest map's size."""

    def __init__(self, backbone: Backbone, levels: tuple[str, ...], decoder: Decoder) -> None:
        super().__init__()
        self.trunk = Trunk(backbone, levels)
        self.decoder = decoder
        self.trained: frozenset[str] = frozenset()
        """Groups of the backbone that are trained; the others stay in eval mode after every `train()`."""

    @property
    def backbone(self) -> Backbone:
        """The reused part of the pretrained network."""
        return self.trunk.backbone

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        logits: torch.Tensor = self.decoder(self.trunk(x))
        return logits

    def train(self, mode: bool = True) -> "MaskNetwork":
        """Set the mode of the decoder and the trained groups; BatchNorm keeps its statistics everywhere.

        A frozen layer in training mode still moves its statistics, and a few photos per batch are too few for new ones.
        """
        super().train(mode)
        for name, group in zip(self.backbone.spec.groups, self.backbone.groups, strict=True):
            if name not in self.trained:
                group.eval()
            for module in group.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self


class PixelMaskNetwork(nn.Module):
    """The network to export: uint8 pixels (B, C, S, S) to logits (B, k, h, w) divided by the temperature."""

    def __init__(self, network: MaskNetwork, transform: Transform, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.transform = transform
        self.temperature = temperature

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        logits: torch.Tensor = self.network(self.transform.normalise(pixels)) / self.temperature
        return logits


@dataclass(frozen=True)
class MaskBundle:
    """A model of masks ready to predict."""

    spec: MaskBundleSpec
    network: MaskNetwork

    @classmethod
    def load(cls, path: Path | str) -> "MaskBundle":
        """Read a bundle.

        Raises:
            ModelError: if the folder has none, or its files do not belong together.
        """
        path = Path(path)
        spec = read_spec(
            path / SPEC_FILE, MaskBundleSpec, content="model of masks", step="train_head", error=ModelError
        )
        read = artifact_tensors
        try:
            backbone = from_tensors(lambda: untrained_backbone(spec.backbone), read(path / BACKBONE_FILE))
            decoder = from_tensors(lambda: Decoder(spec.channels, len(spec.labels)), read(path / DECODER_FILE))
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{path}: the tensors do not belong to {SPEC_FILE} ({str(error)[:200]})") from error
        return cls(spec, MaskNetwork(backbone, spec.levels, decoder).eval())

    def save(self, path: Path) -> None:
        """Write the bundle atomically."""
        parts = {BACKBONE_FILE: self.network.backbone.state_dict(), DECODER_FILE: self.network.decoder.state_dict()}
        with replacing(path) as folder:
            folder.mkdir(parents=True)
            write_json(folder / SPEC_FILE, self.spec.model_dump(mode="json"))
            for name, state in parts.items():
                tensors = {key: tensor.detach().contiguous() for key, tensor in state.items()}
                (folder / name).write_bytes(safetensors.torch.save(tensors))

    @property
    def transform(self) -> Transform:
        """The preprocessing of a photo; photos are put into a square as a whole, see `letterbox`."""
        return self.spec.backbone.transform

    def pixel_network(self) -> PixelMaskNetwork:
        """Return the network to export, in eval mode."""
        return PixelMaskNetwork(self.network.eval(), self.transform, self.spec.temperature).eval()

    def answers(self, photos: Iterable[bytes], what: str = "predict", total: int | None = None) -> Iterator[MaskAnswer]:
        """Yield the answer for every photo, streamed in small batches.

        Raises:
            DataError: if one cannot be decoded.
        """
        for logits, box in self.logits(photos, what, total):
            yield answer(logits, box, self.transform.size, self.spec.temperature)

    def logits(
        self, photos: Iterable[bytes], what: str = "predict", total: int | None = None
    ) -> Iterator[tuple[torch.Tensor, Box]]:
        """Yield the logits (k, h, w) of every photo's square, without temperature, and where the photo lies in it."""
        network = self.network.eval()
        with ThreadPoolExecutor(2) as pool:
            squares = progress(self._squares(pool, iter(photos)), what, total, unit="photos")
            while batch := list(islice(squares, BATCH)):
                with torch.inference_mode():
                    found = network(self.transform.normalise(torch.stack([square for square, _ in batch])))
                yield from zip(found, [box for _, box in batch], strict=True)

    def _squares(self, pool: ThreadPoolExecutor, photos: Iterator[bytes]) -> Iterator[tuple[torch.Tensor, Box]]:
        while chunk := list(islice(photos, 2 * BATCH)):
            yield from pool.map(lambda photo: letterbox(photo, self.transform), chunk)
