"""Images that ask two questions at once: a colour and a pattern, told by what is drawn."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS, PATTERNS = ("blue", "green", "red"), ("plain", "striped")


def picture(colour: int, pattern: int, number: int, side: int = 32) -> Image.Image:
    """A noisy image of one colour, with or without stripes."""
    pixels = np.random.default_rng(1000 * number + 10 * colour + pattern).normal(70, 14, (side, side, 3))
    pixels[:, :, 2 - colour] += 100
    if pattern:
        pixels[::4] *= 0.3
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_images(
    folder: Path, number: int = 120, *, unlabelled: int = 0, columns: tuple[str, ...] = ("colour", "pattern")
) -> Path:
    """Write so many images with a manifest; every `unlabelled`-th row has no pattern."""
    folder.mkdir(parents=True)
    rows = []
    for place in range(number):
        colour, pattern = place % 3, place // 3 % 2
        picture(colour, pattern, place).save(folder / f"{place}.png")
        split = ("train", "train", "train", "val", "test")[place // 6 % 5]
        empty = unlabelled and place % unlabelled == 0
        rows.append([f"{place}.png", COLOURS[colour], "" if empty else PATTERNS[pattern], split])
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", *columns, "split"], *rows])
    return folder
