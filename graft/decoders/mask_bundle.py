"""MaskBundle: a model that gives every pixel a class, as one self-contained folder with a file for the decoder."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from graft.backbones.backbone import Backbone
from graft.backbones.from_tensors import from_tensors
from graft.core.progress import progress
from graft.decoders.answers import MaskAnswer, answer
from graft.decoders.decoder import Decoder
from graft.dense.ahead import ahead
from graft.dense.dense_bundle import DenseBundle, DenseSpec, Stage, read_bundle
from graft.dense.network import DenseNetwork
from graft.imaging.letterbox import Box, letterbox
from graft.imaging.transform import Transform

BATCH = 8


class MaskStage(Stage):
    """A stage that is judged by masks."""

    start_dice: float
    dice: float
    """Mean Dice coefficient of the validation photos, before and after."""


class MaskBundleSpec(DenseSpec):
    """The content of `bundle.json`."""

    temperature: float = 1.0
    class_weight: str = "auto"
    cv_iou: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Mean IoU of training photos by a decoder that had not seen them, with its 95 % interval."""
    stages: tuple[MaskStage, ...] = ()


class MaskNetwork(DenseNetwork):
    """Backbone and decoder: normalised float32 (B, C, S, S) to logits (B, k, h, w) at the finest map's size."""

    def __init__(self, backbone: Backbone, levels: tuple[str, ...], decoder: Decoder) -> None:
        super().__init__(backbone, levels)
        self.decoder = decoder

    @property
    def head(self) -> Decoder:
        """The decoder."""
        return self.decoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        logits: torch.Tensor = self.decoder(self.trunk(x))
        return logits


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
class MaskBundle(DenseBundle[MaskBundleSpec, MaskNetwork]):
    """A model of masks ready to predict; photos are put into a square as a whole, see `letterbox`."""

    HEAD_FILE: ClassVar[str] = "decoder.safetensors"

    @classmethod
    def load(cls, path: Path | str) -> "MaskBundle":
        """Read a bundle.

        Raises:
            ModelError: if the folder has none, or its files do not belong together.
        """
        spec, backbone, decoder = read_bundle(
            Path(path),
            MaskBundleSpec,
            "model of masks",
            cls.HEAD_FILE,
            lambda spec, tensors: from_tensors(lambda: Decoder(spec.channels, len(spec.labels)), tensors),
        )
        return cls(spec, MaskNetwork(backbone, spec.levels, decoder).eval())

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
        squares = progress(
            ahead(lambda photo: letterbox(photo, self.transform), photos, 2 * BATCH), what, total, "photos"
        )
        while batch := list(islice(squares, BATCH)):
            with torch.inference_mode():
                found = network(self.transform.normalise(torch.stack([square for square, _ in batch])))
            yield from zip(found, [box for _, box in batch], strict=True)
