"""Grey pictures among coloured ones are found, however they are stored; other sets are left alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.params.validate_data import ValidateDataParams
from graft.quality.validation import validate
from tests.support.encoded import encoded, scene


def tinted(image: Image.Image, colour: tuple[float, float, float]) -> Image.Image:
    grey = np.asarray(image.convert("L"), np.float64)
    return Image.fromarray(np.clip(grey[:, :, None] * colour, 0, 255).astype(np.uint8))


def noisy(image: Image.Image) -> Image.Image:
    grey = np.asarray(image.convert("L"), np.float64)[:, :, None]
    noise = np.random.default_rng(0).normal(0, 1.5, (image.height, image.width, 3))
    return Image.fromarray(np.clip(grey + noise, 0, 255).astype(np.uint8))


def duller(image: Image.Image) -> Image.Image:
    return Image.blend(image.convert("L").convert("RGB"), image, 0.25)


GREY: dict[str, Callable[[Image.Image], bytes]] = {
    "one band": lambda image: encoded(image.convert("L"), "PNG"),
    "three equal bands": lambda image: encoded(image.convert("L").convert("RGB"), "PNG"),
    "a JPEG of three bands": lambda image: encoded(image.convert("L").convert("RGB"), "JPEG", quality=40),
    "a palette": lambda image: encoded(image.convert("L").quantize(64), "GIF"),
    "16 bits": lambda image: encoded(Image.fromarray(np.asarray(image.convert("L")).astype("u2") * 257), "PNG"),
    "with an alpha channel": lambda image: encoded(image.convert("LA"), "PNG"),
    "CMYK": lambda image: encoded(image.convert("L").convert("CMYK"), "JPEG", quality=90),
    "with the noise of a camera": lambda image: encoded(noisy(image), "PNG"),
    "turned": lambda image: encoded(image.convert("L").transpose(Image.Transpose.ROTATE_270), "WEBP", quality=80),
}
COLOURED: dict[str, Callable[[Image.Image], bytes]] = {
    "sepia": lambda image: encoded(tinted(image, (1.07, 0.86, 0.62)), "JPEG", quality=85),
    "dull": lambda image: encoded(duller(image), "JPEG", quality=85),
    "bluish": lambda image: encoded(tinted(image, (0.8, 0.9, 1.2)), "PNG"),
}


def grey_ones(root: Path, odd: Callable[[Image.Image], bytes], odd_images: int, whole: int) -> set[str]:
    """Return the files that are found to be grey, of two classes in which the first ones are stored in an odd way."""
    for number in range(whole):
        file = root / ("ant", "bee")[number % 2] / f"{number}.img"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(odd(scene(number)) if number < odd_images else encoded(scene(number), "PNG"))
    found = validate(root, ValidateDataParams())
    return {path for finding in found.findings if finding.kind == "grey" for path in finding.files}


@pytest.mark.parametrize("stored", GREY)
def test_grey_ones_are_found(tmp_path: Path, stored: str) -> None:
    assert grey_ones(tmp_path, GREY[stored], 2, 20) == {"ant/0.img", "bee/1.img"}


@pytest.mark.parametrize("stored", COLOURED)
def test_coloured_ones_are_left_alone(tmp_path: Path, stored: str) -> None:
    assert not grey_ones(tmp_path, COLOURED[stored], 4, 20)


@pytest.mark.parametrize("coloured", [0, 3])
def test_a_set_of_grey_pictures_is_not_odd(tmp_path: Path, coloured: int) -> None:
    assert not grey_ones(tmp_path, GREY["one band"], 20 - coloured, 20)
