"""The levels of a backbone: the last group at each resolution, whose maps a decoder reads."""

from dataclasses import dataclass

import torch
from torch import nn

from graft.backbones.backbone import Backbone
from graft.core.errors import ModelError

STRIDES = (4, 8, 16, 32)
NECK = "neck"
"""The group after the trunk: a wide layer for the classes of the source task."""


@dataclass(frozen=True)
class Level:
    """One map of a backbone."""

    group: str
    channels: int
    side: int
    """Positions along each side."""


def find_levels(backbone: Backbone, size: int | None = None) -> tuple[Level, ...]:
    """Return the last group at each stride of 4 to 32 pixels, the finest first.

    Args:
        backbone: the network.
        size: side of the square that is tried; None: that of its transform.

    Raises:
        ModelError: if the backbone has no maps of several resolutions.
    """
    spec = backbone.spec
    pixels = size or spec.transform.size
    found: dict[int, Level] = {}
    x = torch.zeros(1, spec.transform.channels, pixels, pixels, device=next(backbone.parameters()).device)
    with torch.inference_mode():
        for name, group in zip(spec.groups, backbone.groups, strict=True):
            x = group(x)
            if x.ndim == 4 and name != NECK:
                _, channels, side, _ = as_map(x, spec.channels_last).shape
                stride = round(pixels / side)
                if stride in STRIDES:
                    found[stride] = Level(name, channels, side)
    if len(found) < 2:
        raise ModelError(
            f"extract_features.backbone={spec.architecture}: its features have one resolution, and a decoder needs "
            "several; choose a network such as tf_efficientnet_lite0, resnet50, convnext_tiny or swin_t"
        )
    return tuple(found[stride] for stride in sorted(found))


def as_map(activation: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """Return an activation as (B, C, H, W)."""
    return activation.permute(0, 3, 1, 2) if channels_last else activation


class Trunk(nn.Module):
    """A backbone that returns the maps of its levels: normalised float32 (B, C, S, S) to a list of (B, c, h, w)."""

    def __init__(self, backbone: Backbone, groups: tuple[str, ...]) -> None:
        super().__init__()
        self.backbone = backbone
        self.wanted = groups

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the maps, the finest first."""
        maps, spec = [], self.backbone.spec
        for name, group in zip(spec.groups, self.backbone.groups, strict=True):
            x = group(x)
            if name in self.wanted:
                maps.append(as_map(x, spec.channels_last))
        return maps
