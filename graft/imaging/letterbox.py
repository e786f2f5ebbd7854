"""A whole photo in a square: resized to fit, the rest filled with the mean colour, so that no pixel is lost.

A classifier's `Transform` crops the centre; an answer about every pixel needs them all, and the way back.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image

from graft.imaging.transform import Transform, decode


class Box(NamedTuple):
    """Where a photo lies in its square, from the top left corner on."""

    height: int
    width: int
    """Size in the square."""
    photo_height: int
    photo_width: int
    """The photo's own size, upright."""


def fitted(height: int, width: int, size: int) -> Box:
    """Return where a photo of this size lies in a square of `size` pixels."""
    scale = size / max(height, width)
    return Box(max(1, round(height * scale)), max(1, round(width * scale)), height, width)


def letterbox(content: bytes, transform: Transform) -> tuple[torch.Tensor, Box]:
    """Return a photo in a square, uint8 (channels, size, size), and where it lies there.

    Raises:
        DataError: if it cannot be decoded.
    """
    whole = decode(content, 0, transform.channels, transform.max_pixels)
    box = fitted(whole.shape[1], whole.shape[2], transform.size)
    if (box.height, box.width) != (box.photo_height, box.photo_width):
        to = (box.height, box.width)
        whole = F.interpolate(whole[None], size=to, mode=transform.interpolation, antialias=True)[0]
    mean = torch.tensor(transform.mean).expand(transform.channels)
    square = (mean * 255).round().to(torch.uint8).view(-1, 1, 1).repeat(1, transform.size, transform.size)
    square[:, : box.height, : box.width] = whole
    return square, box


def letterbox_mask(mask: npt.NDArray[np.uint8], box: Box, size: int, fill: int) -> npt.NDArray[np.uint8]:
    """Return a mask of any size (h, w) where its photo lies in the square, and `fill` beside it, (size, size)."""
    square = np.full((size, size), fill, np.uint8)
    whole = Image.fromarray(mask).resize((box.width, box.height), Image.Resampling.NEAREST)
    square[: box.height, : box.width] = np.asarray(whole)
    return square


def classes_in_photo(logits: torch.Tensor, box: Box) -> npt.NDArray[np.uint8]:
    """Return the likeliest class of every pixel of the photo, uint8 (photo_height, photo_width).

    The logits (k, S, S) of the square are interpolated class by class: memory does not grow with their number.
    """
    own = logits[:, : box.height, : box.width]
    best: torch.Tensor | None = None
    answer = torch.zeros(box.photo_height, box.photo_width, dtype=torch.uint8)
    for label in range(len(own)):
        plane = F.interpolate(
            own[label][None, None], size=(box.photo_height, box.photo_width), mode="bilinear", align_corners=False
        )[0, 0]
        if best is None:
            best = plane
            continue
        higher = plane > best
        answer[higher] = label
        best = torch.where(higher, plane, best)
    return answer.numpy()
