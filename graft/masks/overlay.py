"""Photos with their masks drawn over them, as people look at them."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from graft.masks.mask_file import resized
from graft.tasks.pixels import IGNORED

COLOURS = np.array(
    [
        *[(0, 0, 0), (230, 85, 13), (31, 119, 180), (44, 160, 44), (148, 103, 189), (227, 26, 28), (0, 150, 136)],
        *[(255, 193, 7), (233, 30, 99), (121, 85, 72), (96, 125, 139)],
    ],
    dtype=np.uint8,
)
"""Colour of each class, the background first (not drawn); more classes begin anew after it."""
STRENGTH = 0.5
WRONG, MISSED = (220, 0, 120), (0, 110, 230)
"""Colours of the error map: drawn where an object was seen and is not, and where one is and was not seen."""


def colour(label: int) -> tuple[int, int, int]:
    """Return the colour of a class by its index."""
    red, green, blue = COLOURS[0 if label == 0 else 1 + (label - 1) % (len(COLOURS) - 1)]
    return int(red), int(green), int(blue)


def shrunk(rgb: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Return a photo (h, w, 3) whose longer side has at most this many pixels."""
    height, width = rgb.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))


def drawn(rgb: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a photo (h, w, 3) with a mask of class indices, of any size, over it; the background stays clear."""
    mask = resized(mask, *rgb.shape[:2])
    table = np.zeros((256, 3), np.uint8)
    table[:IGNORED] = [colour(label) for label in range(IGNORED)]
    table[IGNORED] = 128
    mixed = rgb * (1 - STRENGTH) + table[mask] * STRENGTH
    return np.where((mask > 0)[..., None], mixed, rgb).astype(np.uint8)


def errors(
    rgb: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], answer: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """Return a photo in grey, with the wrong pixels in the colours of `WRONG` (also of another class) and `MISSED`."""
    truth, answer = resized(truth, *rgb.shape[:2]), resized(answer, *rgb.shape[:2])
    grey = np.repeat(rgb.mean(axis=2, keepdims=True), 3, axis=2) * 0.6 + 80
    differs = (truth != answer) & (truth != IGNORED)
    grey[differs & (answer > 0)] = WRONG
    grey[differs & (answer == 0)] = MISSED
    return grey.astype(np.uint8)


def jpeg(rgb: npt.NDArray[np.uint8], quality: int = 82) -> bytes:
    """Return a picture (h, w, 3) as a JPEG file."""
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()
