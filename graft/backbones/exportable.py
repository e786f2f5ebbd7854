"""A backbone's taps as one module of uint8 pixels, which other runtimes convert, and as ONNX."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from graft.backbones.backbone import Backbone
from graft.backbones.extraction import folded_copy

PROBE_IMAGES = 2
Outputs = tuple[npt.NDArray[np.float32], ...]
"""The features (B, sum of widths), and the activation after the last group (B, ...) if it was asked for; (B, H, W, C)
where the backbone has (B, C, H, W)."""


def network_outputs(backbone: Backbone, activation: bool, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the features (B, sum of widths) of normalised pixels (B, C, H, W), and the last activation if asked."""
    pooled = []
    for group in backbone.groups:
        x = group(x)
        pooled.append(backbone.pooled(x))
    features = torch.cat([tap.float() for tap in pooled], dim=1)
    if not activation:
        return (features,)
    return features, x.permute(0, 2, 3, 1) if x.ndim == 4 and not backbone.spec.channels_last else x


def onnx_program(backbone: Backbone, activation: bool) -> bytes:
    """Return the network of `exportable` as the content of an ONNX file, for any number of images."""
    names = ["taps", "activation"] if activation else ["taps"]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is deprecated; the new one takes a minute
        file = Path(folder) / "backbone.onnx"
        torch.onnx.export(
            exportable(backbone, activation),
            (probe_pixels(backbone),),
            file,
            dynamo=False,
            input_names=["pixels"],
            output_names=names,
            dynamic_axes={name: {0: "images"} for name in ("pixels", *names)},
        )
        return file.read_bytes()


class _FromPixels(nn.Module):
    """The outputs as a module of uint8 pixels, normalisation included: the module that other runtimes convert."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, fast: Backbone, activation: bool) -> None:
        super().__init__()
        self.fast, self.activation = fast, activation
        std = torch.tensor(fast.spec.transform.std).view(1, -1, 1, 1)
        self.register_buffer("scale", 1.0 / (255.0 * std))
        self.register_buffer("shift", torch.tensor(fast.spec.transform.mean).view(1, -1, 1, 1) / std)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return network_outputs(self.fast, self.activation, pixels.float() * self.scale - self.shift)


def exportable(backbone: Backbone, activation: bool) -> nn.Module:
    """Return a module of uint8 pixels (B, C, H, W) whose results are those of `network_outputs`."""
    return _FromPixels(folded_copy(backbone, lambda copy, batch: copy.taps(batch)), activation).eval()


def probe_pixels(backbone: Backbone) -> torch.Tensor:
    """Return black images, uint8 (PROBE_IMAGES, C, H, W), of the size that the backbone takes."""
    return torch.zeros(PROBE_IMAGES, *backbone.spec.transform.shape, dtype=torch.uint8)
