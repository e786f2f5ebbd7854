"""Images of other than three channels into a network that was pretrained on RGB.

Every way below answers an image whose channels are all alike (and normalised alike) as the pretrained network answers
grey: the weights over the channels add up to what they were. Inflating filters by dividing them is how Carreira and
Zisserman, "Quo vadis, action recognition?", CVPR 2017, made video networks of image networks; timm's
`adapt_input_conv` does it for channels.
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
    """Return what each of the network's three inputs takes of so many channels, float32 (3, channels).

    `average`: the mean of all, three times. `repeat`: channels are dealt out to the inputs in turn, those to one input
    are averaged; fewer than three channels begin anew.
    """
    if stem == "average":
        return torch.full((PRETRAINED, channels), 1.0 / channels)
    dealt = torch.arange(max(channels, PRETRAINED))
    taken = torch.zeros(PRETRAINED, channels)
    taken[dealt % PRETRAINED, dealt % channels] = 1.0
    return taken / taken.sum(dim=1, keepdim=True)


def inflated(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Return filters (out, channels, h, w) for so many channels, made of filters for RGB (out, 3, h, w).

    One channel gets the sum, which is the same as grey repeated. Four get those of red, green and blue and their mean
    for the fourth (alpha, infrared), times 3/4. Any other number get the mean each, times 3 / channels.
    """
    mean = weight.mean(dim=1, keepdim=True)
    filters = torch.cat([weight, mean], dim=1) if channels == 4 else mean.expand(-1, channels, -1, -1)
    return (filters * (PRETRAINED / channels)).contiguous()


def inflate(model: nn.Module, channels: int, name: str, random: torch.Generator | None = None) -> None:
    """Give a network for RGB a first convolution for so many channels, in place.

    Networks with several convolutions side by side that look at the image (RepVGG, CrossViT) get all of them.

    Args:
        model: whole.
        channels: of the images.
        name: the architecture's, for the message.
        random: draws the filters, of the spread that the network's have, where these are random themselves: copies of
            one filter would be a poor start.

    Raises:
        ModelError: if it begins with no plain convolution over RGB.
    """
    first = [m for m in model.modules() if isinstance(m, nn.Conv2d) and (m.in_channels, m.groups) == (PRETRAINED, 1)]
    if not first or not all(_is_plain(conv) for conv in first):
        raise ModelError(
            f"extract_features.stem='inflate': {name} does not begin with a plain convolution over RGB; "
            "take repeat or average, or another backbone"
        )
    for conv in first:
        weight = conv.weight.detach()
        if random is None:
            new = inflated(weight, channels)
        else:
            shape = (weight.shape[0], channels, *weight.shape[2:])
            new = torch.randn(shape, generator=random) * weight.std() * (PRETRAINED / channels) ** 0.5
        conv.weight = nn.Parameter(new)
        conv.in_channels = channels


def per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return a number for each channel, made of those of red, green and blue: their mean, but for RGB itself.

    Four channels begin with RGB, as in `inflated`.
    """
    mean = sum(values) / len(values)
    return (*values, mean) if channels == 4 and len(values) == PRETRAINED else (mean,) * channels


def _is_plain(conv: nn.Conv2d) -> bool:
    # One that standardises its weights has another scale once there are more of them; timm's SAME padding has not.
    return type(conv).forward is nn.Conv2d.forward or type(conv).__name__ == "Conv2dSame"
