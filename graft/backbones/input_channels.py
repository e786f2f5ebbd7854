"""Adapting a network that was pretrained on RGB to images with other than three channels.

For an image whose channels are all equal (and equally normalised), every method below gives the same result as the
pretrained network for grey: the sum of the weights over the channels is unchanged. Carreira and Zisserman, "Quo vadis,
action recognition?", CVPR 2017, inflated and divided filters like this to turn image networks into video networks;
timm's `adapt_input_conv` does it for channels.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from graft.core.errors import ModelError

Stem = Literal["inflate", "repeat", "average"]
PRETRAINED = 3
"""Channels that networks are pretrained on."""


class ChannelMap(nn.Module):
    """A fixed mixture of channels in front of an unchanged network: (B, N, H, W) to (B, 3, H, W)."""

    mixture: torch.Tensor
    """(3, N), each row sums to 1."""

    def __init__(self, channels: int, stem: Stem) -> None:
        super().__init__()
        self.register_buffer("mixture", mixture(channels, stem))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the three mixed channels."""
        return F.conv2d(x, self.mixture[:, :, None, None])


def mixture(channels: int, stem: Stem) -> torch.Tensor:
    """Return the weights of the channels in each of the network's three inputs, float32 (3, channels).

    `average`: the mean of all, three times. `repeat`: channels are assigned to the inputs in turn, and those of one
    input are averaged; fewer than three channels are repeated.
    """
    if stem == "average":
        return torch.full((PRETRAINED, channels), 1.0 / channels)
    turns = torch.arange(max(channels, PRETRAINED))
    weights = torch.zeros(PRETRAINED, channels)
    weights[turns % PRETRAINED, turns % channels] = 1.0
    return weights / weights.sum(dim=1, keepdim=True)


def inflate_filters(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Return filters (out, channels, h, w) for this number of channels, made from filters for RGB (out, 3, h, w).

    One channel gets the sum, which equals repeating grey. Four channels get the filters of red, green and blue, and
    their mean for the fourth (alpha, infrared), times 3/4. Otherwise each channel gets the mean, times 3 / channels.
    """
    mean = weight.mean(dim=1, keepdim=True)
    filters = torch.cat([weight, mean], dim=1) if channels == 4 else mean.expand(-1, channels, -1, -1)
    return (filters * (PRETRAINED / channels)).contiguous()


def inflate_stem(model: nn.Module, channels: int, name: str, random: torch.Generator | None = None) -> None:
    """Give a network for RGB a first convolution for this number of channels, in place.

    If several parallel convolutions read the image (RepVGG, CrossViT), all of them are replaced.

    Args:
        model: the complete network.
        channels: of the images.
        name: of the architecture, for the message.
        random: draws filters with the same standard deviation as the network's, if those are random themselves: copies
            of one filter would be a poor start.

    Raises:
        ModelError: if the network does not begin with a plain convolution over RGB.
    """
    first = [m for m in model.modules() if isinstance(m, nn.Conv2d) and (m.in_channels, m.groups) == (PRETRAINED, 1)]
    if not first or not all(_is_plain(conv) for conv in first):
        raise ModelError(
            f"extract_features.stem='inflate': {name} does not begin with a plain convolution over RGB; "
            "use repeat or average, or another backbone"
        )
    for conv in first:
        weight = conv.weight.detach()
        if random is None:
            new = inflate_filters(weight, channels)
        else:
            shape = (weight.shape[0], channels, *weight.shape[2:])
            new = torch.randn(shape, generator=random) * weight.std() * (PRETRAINED / channels) ** 0.5
        conv.weight = nn.Parameter(new)
        conv.in_channels = channels


def per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return a number for each channel, made from those of red, green and blue: their mean.

    Four channels begin with those of RGB, as in `inflate_filters`.
    """
    mean = sum(values) / len(values)
    return (*values, mean) if channels == 4 and len(values) == PRETRAINED else (mean,) * channels


def _is_plain(conv: nn.Conv2d) -> bool:
    # A convolution that standardises its weights changes scale if there are more of them; timm's SAME padding does not.
    return type(conv).forward is nn.Conv2d.forward or type(conv).__name__ == "Conv2dSame"
