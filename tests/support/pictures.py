"""Small pictures whose classes are easy to distinguish."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

MakeImages = Callable[..., Path]
"""Type of the fixture `image_folder`."""


def picture(label: int, number: int, size: int = 24) -> Image.Image:
    """Return a picture with stripes in the colour and width of its class, plus noise seeded by class and number."""
    generator = np.random.default_rng(1000 * label + number)
    colour = np.array([(200, 60, 60), (60, 200, 60), (60, 60, 200), (200, 200, 60), (60, 200, 200)][label % 5])
    stripes = (np.arange(size) // (2 + label)) % 2
    pixels = colour[None, None, :] * (0.4 + 0.6 * stripes[None, :, None]) + generator.normal(0, 25, (size, size, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def random_luminance(n: int, seed: int = 0) -> np.ndarray:
    """Return smooth random luminance, like that of photos: uint8 (n, 32, 32)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 8, 8)).astype(np.uint8)
    return np.kron(coarse, np.ones((1, 4, 4), np.uint8))
