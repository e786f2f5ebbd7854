"""The decoder: maps of several resolutions in, logits of every class for every pixel out.

A feature pyramid in its simplest form (Lin et al., CVPR 2017; Kirillov et al., CVPR 2019): each map is projected to the
same width, enlarged to the finest one and added; two convolutions mix the sum.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, NORM_GROUPS = 32, 8
Maps = Sequence[torch.Tensor]


class Decoder(nn.Module):
    """Maps, float32 (B, c, h, w) from the finest to the coarsest, to logits (B, k, h0, w0) of the finest map's size."""

    means: torch.Tensor
    scales: torch.Tensor

    def __init__(self, channels: Sequence[int], classes: int, width: int = WIDTH) -> None:
        super().__init__()
        self.channels = list(channels)
        self.register_buffer("means", torch.zeros(sum(channels)))
        self.register_buffer("scales", torch.ones(sum(channels)))
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.mix = nn.Sequential(
            *(nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(NORM_GROUPS, width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(NORM_GROUPS, width), nn.ReLU()),
        )
        self.answer = nn.Conv2d(width, classes, 1)

    def standardise(self, means: torch.Tensor, scales: torch.Tensor) -> None:
        """Set the mean and standard deviation of every channel of the maps, (sum of channels,)."""
        self.means.copy_(means)
        self.scales.copy_(scales.clamp(min=1e-3))

    def forward(self, maps: Maps) -> torch.Tensor:
        """Return the logits."""
        size = maps[0].shape[-2:]
        total: torch.Tensor | None = None
        means, scales = self.means.split_with_sizes(self.channels), self.scales.split_with_sizes(self.channels)
        split = zip(maps, means, scales, self.lateral, strict=True)
        for found, mean, scale, lateral in split:
            projected = lateral((found - mean.view(-1, 1, 1)) / scale.view(-1, 1, 1))
            if projected.shape[-2:] != size:
                projected = F.interpolate(projected, size=size, mode="bilinear", align_corners=False)
            total = projected if total is None else total + projected
        assert total is not None
        logits: torch.Tensor = self.answer(self.mix(total))
        return logits


def enlarged(logits: torch.Tensor, size: int) -> torch.Tensor:
    """Return logits at the size of the square, (B, k, size, size)."""
    return F.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False)
