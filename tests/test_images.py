"""Reading images: every format and mode, and one named fault for what cannot be read."""

import numpy as np
import pytest
from encoded import encoded, png
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from graft.images import FORMATS, ImageError, decode, facts

LEFT_RED = np.zeros((20, 30, 3), np.uint8)
LEFT_RED[:, :15, 0] = 255
PICTURE = Image.fromarray(LEFT_RED)


@pytest.mark.parametrize("image_format", FORMATS)
def test_every_format_is_read(image_format: str) -> None:
    pixels = decode(encoded(PICTURE, image_format))
    assert pixels.dtype == np.uint8
    assert pixels.shape == (20, 30, 3)
    assert np.abs(pixels[:, 2:12].astype(int) - (255, 0, 0)).max() < 30
    assert pixels[:, 18:28].max() < 30


@pytest.mark.parametrize(
    ("mode", "image_format"),
    [
        *(("L", "JPEG"), ("1", "PNG"), ("P", "PNG"), ("P", "GIF"), ("RGBA", "PNG"), ("LA", "PNG"), ("CMYK", "JPEG")),
        *(("CMYK", "TIFF"), ("YCbCr", "TIFF"), ("LAB", "TIFF"), ("RGBA", "WEBP"), ("L", "BMP")),
    ],
)
def test_every_mode_becomes_rgb(mode: str, image_format: str) -> None:
    grey = Image.fromarray(np.tile(np.repeat(np.uint8([30, 220]), 15), (20, 1)))
    content = encoded(grey.convert("RGB").convert(mode), image_format)
    assert facts(content).mode in (mode, "RGB")
    pixels = decode(content).astype(int)
    assert pixels.shape == (20, 30, 3)
    assert pixels[:, 20:].mean() > pixels[:, :10].mean() + 150


def test_sixteen_bit_grey_keeps_its_scale() -> None:
    ramp = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    for image_format in ("PNG", "TIFF"):
        content = encoded(Image.fromarray(ramp), image_format)
        assert facts(content).mode == "I;16"
        assert np.abs(decode(content)[:, :, 0].astype(float) - ramp / 257).max() <= 0.5


def test_sixteen_bit_colour_is_named() -> None:
    rows = b"".join(b"\0" + bytes(range(180)) for _ in range(20))
    assert facts(png(30, 20, 16, rows)).mode == "RGB;16"
    assert decode(png(30, 20, 16, rows)).shape == (20, 30, 3)


def test_floats_up_to_one_are_fractions_of_white() -> None:
    pixels = decode(encoded(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF"))
    assert pixels.min() == pixels.max() == 128


def test_transparency_is_shown_over_white() -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert decode(encoded(clear, "PNG")).min() == 255
    keyed = encoded(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert decode(keyed).min() == 255
    assert facts(keyed).alpha


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, image_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(PICTURE, image_format, exif=exif)
    pixels = decode(content).astype(int)
    assert (facts(content).height, facts(content).width) == pixels.shape[:2]
    # where EXIF says that the stored left side is to be shown
    side = {1: "left", 2: "right", 3: "right", 4: "left", 5: "top", 6: "top", 7: "bottom", 8: "bottom"}[orientation]
    shown = {"left": pixels[:, :5], "right": pixels[:, -5:], "top": pixels[:5], "bottom": pixels[-5:]}[side]
    assert shown[..., 0].min() > 200


def test_first_frame_of_an_animation() -> None:
    content = encoded(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(180)])
    assert facts(content).frames == 2
    assert decode(content)[0, 0, 0] > 200


def test_what_the_camera_wrote_is_noticed() -> None:
    exif = Image.Exif()
    exif[0x013B] = "A. Painter"
    exif.get_ifd(0x8825)[1] = "N"
    found = facts(encoded(PICTURE, "JPEG", exif=exif))
    assert found.personal
    assert found.gps


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_cut_files_are_truncated(image_format: str, part: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    content = encoded(noise, image_format)
    with pytest.raises(ImageError, match="cut short") as caught:
        decode(content[: int(len(content) * part)])
    assert caught.value.kind == "truncated"


@pytest.mark.parametrize(
    ("content", "kind", "text"),
    [
        (b"", "empty_file", "the file is empty (0 bytes)"),
        (b"just some text", "undecodable", "not an image in a supported format (JPEG, PNG, WebP, BMP, GIF, TIFF)"),
        (
            png(60_000, 60_000),
            "decompression_bomb",
            "60000 x 60000 pixels (3,600,000,000), more than the 100,000,000 allowed",
        ),
        (b"<svg xmlns=''></svg>", "unsupported", "SVG is not supported; convert it to JPEG or PNG"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "unsupported", "HEIC or AVIF is not supported; convert it to JPEG or PNG"),
    ],
)
def test_each_fault_has_its_line(content: bytes, kind: str, text: str) -> None:
    for read in (decode, facts):
        with pytest.raises(ImageError) as caught:
            read(content)
        assert caught.value.kind == kind
        assert str(caught.value) == text


def test_a_bomb_is_stopped_before_a_pixel_is_decoded() -> None:
    with pytest.raises(ImageError, match="more than the 599 allowed"):
        decode(encoded(PICTURE, "PNG"), max_pixels=599)
    assert decode(encoded(PICTURE, "PNG"), max_pixels=600).shape == (20, 30, 3)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=200, deadline=None)
@given(
    source=st.sampled_from([encoded(PICTURE, name) for name in FORMATS]),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=20),
)
def test_damaged_bytes_are_read_or_named(source: bytes, changes: list[tuple[int, int]]) -> None:
    content = bytearray(source)
    for place, value in changes:
        content[place % len(content)] = value
    try:
        facts(bytes(content))
        pixels = decode(bytes(content), max_pixels=1_000_000)
    except ImageError:
        return
    assert pixels.ndim == 3
    assert pixels.dtype == np.uint8
