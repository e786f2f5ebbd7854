"""Augmented views of an image, each determined only by (seed, view, image).

A view does not depend on the thread or process that makes it, nor on the order: the number of workers changes nothing.
Views are mirrored only on request: a mirrored digit or letter may be a different one.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from graft.params.fine_tune import AugmentationRanges

Strength = Literal["none", "light", "strong", "custom"]


@dataclass(frozen=True)
class Augmentation:
    """Ranges from which the parameters of a view are drawn, uniformly."""

    degrees: float
    """Rotation in either direction."""
    shift: float
    """Translation in either direction, as a fraction of the image's side."""
    zoom: float
    """Zoom in or out, as the logarithm of the factor."""
    light: float
    """Brightness and contrast, as a factor of 1 - light to 1 + light."""
    flip: bool
    """Whether half of the views are mirrored left to right."""


def augmentation(
    strength: Strength, flip: bool = False, custom: AugmentationRanges | None = None
) -> Augmentation | None:
    """Return the ranges of a strength, the user's for `custom`; None if every view is the unchanged image."""
    if strength == "custom":
        ranges = custom or AugmentationRanges()
        return Augmentation(ranges.degrees, ranges.shift, ranges.zoom, ranges.light, flip)
    if strength == "none":
        return Augmentation(0, 0, 0, 0, flip) if flip else None
    if strength == "light":
        return Augmentation(degrees=8, shift=0.06, zoom=0.1, light=0.15, flip=flip)
    return Augmentation(degrees=15, shift=0.1, zoom=0.25, light=0.3, flip=flip)


def view_of(pixels: torch.Tensor, ranges: Augmentation, seed: int, view: int, image_id: str) -> torch.Tensor:
    """Return one view of an image.

    One affine map, sampled bilinearly with the border repeated (no black corners that a model could learn), then
    brightness and contrast.

    Args:
        pixels: uint8 (C, S, S), with any number of channels.
        ranges: the ranges to draw from.
        seed, view, image_id: determine the draw.

    Returns:
        uint8 (C, S, S).
    """
    generator = torch.Generator().manual_seed(_seed(seed, view, image_id))
    angle, x, y, zoom, bright, contrast, mirror = (2 * torch.rand(7, generator=generator) - 1).tolist()
    angle, zoom = math.radians(angle * ranges.degrees), math.exp(zoom * ranges.zoom)
    flip = -1.0 if ranges.flip and mirror < 0 else 1.0
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    matrix = torch.tensor([[[flip * cos, -sin, 2 * ranges.shift * x], [flip * sin, cos, 2 * ranges.shift * y]]])
    image = pixels[None].to(torch.float32)
    if not torch.equal(matrix[0, :, :2], torch.eye(2)) or ranges.shift:
        grid = F.affine_grid(matrix, list(image.shape), align_corners=False)
        image = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
    mean = image.mean()
    image = (image - mean) * (1 + contrast * ranges.light) + mean * (1 + bright * ranges.light)
    result: torch.Tensor = image[0].round_().clamp_(0, 255).to(torch.uint8)
    return result


def _seed(*parts: object) -> int:
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
