"""Small pictures of classes that can be told apart."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

MakeImages = Callable[..., Path]
"""What the fixture `image_folder` gives."""


def picture(label: int, number: int, size: int = 24) -> Image.Image:
    """A picture whose class is visible: stripes of a class's own colour and width, plus noise of its own number."""
    generator = np.random.default_rng(1000 * label + number)
    colour = np.array([(200, 60, 60), (60, 200, 60), (60, 60, 200), (200, 200, 60), (60, 200, 200)][label % 5])
    stripes = (np.arange(size) // (2 + label)) % 2
    pixels = colour[None, None, :] * (0.4 + 0.6 * stripes[None, :, None]) + generator.normal(0, 25, (size, size, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
