"""A whole photo at the size that a detector sees: its short side is fixed, its shape is kept.

Detectors answer with boxes and masks of any place, so they need neither a square nor a crop.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from graft.imaging.transform import Transform, decode

LONGEST = 2.0
"""The long side has at most this many times the pixels of the short side: a panorama is shrunk further."""
MULTIPLE = 32


class Fit(NamedTuple):
    """Where a photo lies in the network's input, from the top left corner on."""

    height: int
    width: int
    """Its size there; the input is filled up to multiples of 32."""
    photo_height: int
    photo_width: int
    """The photo's own size, upright."""

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of the input."""
        return math.ceil(self.height / MULTIPLE) * MULTIPLE, math.ceil(self.width / MULTIPLE) * MULTIPLE


def fit_to(height: int, width: int, short_side: int) -> Fit:
    """Return the size at which a photo is seen."""
    scale = min(short_side / min(height, width), LONGEST * short_side / max(height, width))
    return Fit(max(1, round(height * scale)), max(1, round(width * scale)), height, width)


def prepared(content: bytes, transform: Transform) -> tuple[torch.Tensor, Fit]:
    """Return a photo at the network's size, uint8 (channels, height, width) without the padding, and its place.

    Raises:
        DataError: if it cannot be decoded.
    """
    whole = decode(content, 0, transform.channels, transform.max_pixels)
    fit = fit_to(whole.shape[1], whole.shape[2], transform.size)
    if (fit.height, fit.width) != (fit.photo_height, fit.photo_width):
        to = (fit.height, fit.width)
        whole = F.interpolate(whole[None], size=to, mode=transform.interpolation, antialias=True)[0]
    return whole, fit


def padded(pixels: torch.Tensor, transform: Transform, fit: Fit) -> torch.Tensor:
    """Return pixels (channels, height, width), mirrored or not, filled with the mean colour up to the input's size."""
    mean = torch.tensor(transform.mean).expand(transform.channels)
    whole = (mean * 255).round().to(torch.uint8).view(-1, 1, 1).repeat(1, *fit.padded)
    whole[:, : fit.height, : fit.width] = pixels
    return whole
