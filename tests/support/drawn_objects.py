"""Photos with separate objects that are drawn in a moment, as masks that number them or as a COCO file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tests.support.drawn_masks import COLOURS, noise

KINDS = ("disc", "square")


def scene(seed: int, size: tuple[int, int] = (96, 72)) -> tuple[Image.Image, np.ndarray, list[tuple[int, int]]]:
    """A photo, the number of the object of each pixel (h, w), and number and kind of each object."""
    draws = np.random.default_rng(seed)
    photo, numbers = noise(size, seed), np.zeros((size[1], size[0]), np.uint16)
    kinds: list[tuple[int, int]] = []
    for number in range(1, int(draws.integers(2, 5))):
        kind, half = int(draws.integers(2)), int(draws.integers(size[1] // 8, size[1] // 5))
        x, y = (int(draws.integers(half + 1, side - half - 1)) for side in size)
        shape = Image.new("1", size)
        box = (x - half, y - half, x + half, y + half)
        draw = ImageDraw.Draw(shape)
        (draw.ellipse if kind == 0 else draw.rectangle)(box, fill=1)
        own = np.asarray(shape)
        if (numbers[own] > 0).any():
            continue
        numbers[own] = number
        shade = tuple(int(np.clip(value + draws.integers(-25, 25), 0, 255)) for value in COLOURS[kind])
        photo.paste(Image.new("RGB", size, shade), mask=shape)  # type: ignore[arg-type]
        kinds.append((number, kind))
    return photo, numbers, kinds


def write_numbered(root: Path, count: int, size: tuple[int, int] = (96, 72), seed: int = 0) -> Path:
    """Write `images/` and `masks/` whose values number the objects, some of them 16-bit."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for at in range(count):
        photo, numbers, _ = scene(seed * 1000 + at, size)
        photo.save(root / "images" / f"{at:03d}.png")
        wide = at % 2 == 1
        Image.fromarray(numbers * 300 if wide else numbers.astype(np.uint8)).save(root / "masks" / f"{at:03d}.png")
    return root


def write_coco(root: Path, count: int, size: tuple[int, int] = (96, 72), seed: int = 0) -> Path:
    """Write `images/` and `annotations.json`: squares as polygons, discs as plain runs."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for at in range(count):
        photo, numbers, kinds = scene(seed * 1000 + at, size)
        photo.save(root / "images" / f"{at:03d}.png")
        images.append({"id": at, "file_name": f"{at:03d}.png", "width": size[0], "height": size[1]})
        for number, kind in kinds:
            mask = numbers == number
            y, x = np.nonzero(mask)
            left, top, right, bottom = (int(v) for v in (x.min(), y.min(), x.max() + 1, y.max() + 1))
            if kind == 1:
                segmentation: Any = [[left, top, right, top, right, bottom, left, bottom]]
            else:
                flat = np.concatenate([[False], mask.T.ravel()])
                changes = np.flatnonzero(np.diff(flat.astype(np.int8)) != 0)
                runs = np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()
                segmentation = {"size": [size[1], size[0]], "counts": runs}
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": at,
                    "category_id": kind + 1,
                    "iscrowd": 0,
                    "area": int(mask.sum()),
                    "bbox": [left, top, right - left, bottom - top],
                    "segmentation": segmentation,
                }
            )
    categories = [{"id": at + 1, "name": name} for at, name in enumerate(KINDS)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(content))
    return root
