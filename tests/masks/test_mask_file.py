"""Mask files: grey, palette and 16 bits are values; JPEG and colours are refused."""

import io

import numpy as np
import pytest
from PIL import Image

from graft.masks.mask_file import MaskError, read_mask, resized, write_mask

VALUES = np.array([[0, 1, 2], [3, 0, 1]], np.uint8)


def saved(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def test_a_palette_is_read_by_its_indices_whatever_the_colours() -> None:
    image = Image.fromarray(VALUES).convert("P")
    image.putdata(VALUES.ravel().tolist())
    image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9])
    assert read_mask(saved(image)).values.tolist() == VALUES.tolist()


def test_sixteen_bits_keep_their_values() -> None:
    wide = np.array([[0, 300], [65535, 7]], np.uint16)
    assert read_mask(saved(Image.fromarray(wide))).values.tolist() == wide.tolist()
    assert read_mask(write_mask(wide)).values.tolist() == wide.tolist()


def test_grey_saved_as_rgb_is_grey() -> None:
    assert read_mask(saved(Image.fromarray(VALUES).convert("RGB"))).values.tolist() == VALUES.tolist()


@pytest.mark.parametrize(
    ("content", "kind", "text"),
    [
        (saved(Image.fromarray(VALUES), "JPEG"), "mask_lossy", "JPEG"),
        (saved(Image.new("RGB", (4, 4), (200, 10, 10))), "mask_colours", "colours"),
        (b"no picture", "mask_unreadable", "not an image"),
    ],
)
def test_what_cannot_be_a_mask_is_named(content: bytes, kind: str, text: str) -> None:
    with pytest.raises(MaskError, match=text) as error:
        read_mask(content)
    assert error.value.kind == kind


def test_resizing_makes_up_no_class() -> None:
    mask = np.array([[0, 9], [9, 0]], np.uint8)
    assert set(np.unique(resized(mask, 31, 17))) == {0, 9}
    assert resized(mask, 2, 2) is mask
