"""Photos with masks that are drawn in a moment: coloured shapes on smooth noise, or on given photos."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

NAMES = {0: "background", 1: "disc", 2: "square", 3: "triangle"}
COLOURS = ((220, 60, 50), (50, 120, 220), (240, 200, 40))


def noise(size: tuple[int, int], seed: int) -> Image.Image:
    """A smooth grey-green background."""
    values = np.random.default_rng(seed).integers(60, 190, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values).filter(ImageFilter.GaussianBlur(3))


def shapes(photo: Image.Image, seed: int, kinds: Sequence[int] = (1, 2, 3)) -> tuple[Image.Image, Image.Image]:
    """The photo with one shape of each kind on it, and the mask of classes."""
    draws = np.random.default_rng(seed)
    photo, mask = photo.convert("RGB"), Image.new("L", photo.size)
    for kind in draws.permutation(list(kinds)):
        half = int(draws.integers(min(photo.size) // 8, min(photo.size) // 4))
        x, y = (int(draws.integers(half, side - half)) for side in photo.size)
        shade = tuple(int(np.clip(value + draws.integers(-25, 25), 0, 255)) for value in COLOURS[kind - 1])
        for canvas, fill in ((ImageDraw.Draw(photo), shade), (ImageDraw.Draw(mask), int(kind))):
            box = (x - half, y - half, x + half, y + half)
            if kind == 1:
                canvas.ellipse(box, fill=fill)  # type: ignore[arg-type]
            elif kind == 2:
                canvas.rectangle(box, fill=fill)  # type: ignore[arg-type]
            else:
                canvas.polygon([(x, y - half), (x + half, y + half), (x - half, y + half)], fill=fill)  # type: ignore[arg-type]
    return photo, mask


def write_pairs(
    root: Path, count: int, size: tuple[int, int] = (96, 72), kinds: Sequence[int] = (1, 2, 3), seed: int = 0
) -> Path:
    """Write `images/` and `masks/` of equal names into `root`."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        photo, mask = shapes(noise(size, seed * 1000 + number), seed * 1000 + number, kinds)
        photo.save(root / "images" / f"{number:03d}.png")
        mask.save(root / "masks" / f"{number:03d}.png")
    return root
