"""Wide images of a set share one range of values; alpha that is empty everywhere is not believed."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from graft.imaging.decode import ImageError, decode
from graft.imaging.transform import Transform
from graft.imaging.value_range import eight_bits, extremes, shared_range
from tests.support.encoded import banded, encoded


def grey(*values: float, dtype: str = "f4") -> bytes:
    samples = np.array(values, dtype).reshape(1, -1).repeat(4, axis=0)
    return encoded(Image.fromarray(samples), "TIFF")


def range_of(*pictures: list[float], dtype: str = "f4") -> tuple[float, float]:
    return shared_range(extremes(np.array(values, dtype)) for values in pictures)


@pytest.mark.parametrize(
    ("pictures", "dtype", "expected"),
    [
        ([[0.1, 0.5], [0.0, 0.9]], "f4", (0.0, 1.0)),
        ([[0.1, 0.5], [0.0, 200.0]], "f4", (0.0, 255.0)),
        ([[3.0], [60000.0]], "f4", (0.0, 65535.0)),
        ([[270.5], [310.0]], "f4", (0.0, 1023.0)),
        ([[3.0], [1e6]], "f4", (0.0, 1e6)),
        ([[-1.0, 1.0], [0.2, 0.4]], "f4", (-1.0, 1.0)),
        ([[np.nan, 0.5], [np.inf, -np.inf]], "f4", (0.0, 1.0)),
        ([[np.nan]], "f4", (0.0, 1.0)),
        ([[7, 900], [4000]], "u2", (0.0, 4095.0)),
        ([[7, 900], [40000]], "u2", (0.0, 65535.0)),
        ([[5], [200]], "u2", (0.0, 255.0)),
        ([[-1024, 3071]], "i2", (-1024.0, 4095.0)),
        ([[70000]], "i4", (0.0, 2.0**24 - 1)),
    ],
)
def test_the_range_of_a_set(pictures: list[list[float]], dtype: str, expected: tuple[float, float]) -> None:
    assert range_of(*pictures, dtype=dtype) == expected


@given(st.lists(st.lists(st.floats(width=32), min_size=1, max_size=6), min_size=1, max_size=5))
def test_within_a_set_equal_values_are_equal_shades_and_larger_ones_are_not_darker(found: list[list[float]]) -> None:
    values = range_of(*found)
    every = sorted({value for picture in found for value in picture if np.isfinite(value)})
    shades = eight_bits(np.array(every, "f4"), values)
    assert (np.diff(shades.astype(int)) >= 0).all()
    for picture in found:
        one = eight_bits(np.array(picture, "f4"), values)
        for value, shade in zip(picture, one, strict=True):
            if np.isfinite(value):
                assert shade == shades[every.index(value)]
    assert eight_bits(np.array([np.nan, -np.inf, np.inf], "f4"), values).tolist() == [0, 0, 255]


def test_one_value_is_one_shade_in_every_file() -> None:
    dim, bright = grey(0.0, 10.0, 20.0), grey(0.0, 10.0, 200.0)
    shades = [decode(content, values=(0.0, 255.0))[0, :, 0].tolist() for content in (dim, bright)]
    assert shades == [[0, 10, 20], [0, 10, 200]]


def test_without_a_range_only_types_that_have_one_are_read() -> None:
    assert decode(grey(0, 128, 65535, dtype="u2"))[0, :, 0].tolist() == [0, 0, 255]
    assert decode(grey(0.0, 0.5, 1.0))[0, :, 0].tolist() == [0, 128, 255]
    with pytest.raises(ImageError, match="from 0 to 200, and no range of values is known") as caught:
        decode(grey(0.0, 200.0))
    assert caught.value.kind == "unsupported"


def test_the_transform_keeps_the_range_for_pictures_and_bands() -> None:
    transform = Transform(size=4, value_range=(0.0, 4095.0))
    assert Transform.model_validate_json(transform.model_dump_json()) == transform
    assert transform.pixels(grey(*[4095] * 4, dtype="u2")).unique().tolist() == [255]
    bands = banded(np.full((4, 4, 5), 2048, "<u2"))
    several = Transform(size=4, channels=5, mean=(0.5,), std=(0.5,), value_range=(0.0, 4095.0))
    assert several.pixels(bands).unique().tolist() == [128]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8"])
def test_floats_of_every_size_are_read(dtype: str) -> None:
    samples = np.array([0.0, 0.5, 1.0, 0.25], dtype).reshape(1, -1, 1).repeat(4, axis=0)
    assert decode(banded(samples))[0, :, 0].tolist() == [0, 128, 255, 64]
    assert Transform(size=4, channels=1, mean=(0.5,), std=(0.5,)).pixels(banded(samples))[0, 0].tolist() == [
        *(0, 128, 255, 64)
    ]
    with pytest.raises(ImageError, match="more than the 15 allowed"):
        decode(banded(samples), max_pixels=15)
    with pytest.raises(ImageError):
        decode(banded(samples)[:40])


def bmp_with_alpha(pixels: np.ndarray) -> bytes:
    """Return RGBA pixels as a BMP of 32 bits whose header (version 4) names the alpha."""
    height, width, _ = pixels.shape
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    rows = pixels[::-1, :, [2, 1, 0, 3]].tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(rows), 0, 0, 0, 0) + masks + b"BGRs"
    header += bytes(108 - len(header))
    return b"BM" + struct.pack("<IHHI", 122 + len(rows), 0, 0, 122) + header + rows


@pytest.mark.parametrize("image_format", ["BMP", "PNG", "TIFF", "WEBP"])
def test_alpha_that_is_empty_everywhere_is_not_believed(image_format: str) -> None:
    pixels = np.random.default_rng(0).integers(60, 200, (12, 10, 4), np.uint8)
    pixels[:, :, 3] = 0
    options = {"lossless": True, "exact": True} if image_format == "WEBP" else {}

    def saved() -> bytes:
        if image_format == "BMP":
            return bmp_with_alpha(pixels)
        return encoded(Image.fromarray(pixels), image_format, **options)

    assert np.array_equal(decode(saved()), pixels[:, :, :3])
    pixels[0, 0, 3] = 255
    assert decode(saved())[5, 5].tolist() == [255, 255, 255]
