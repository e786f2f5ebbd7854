"""Decoding with any number of channels: 8 bits per channel, or a clear fault."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from graft.imaging import decode, multichannel
from graft.imaging.decode import ImageError
from tests.support.encoded import banded, encoded, paged, png, scene


def samples_of(count: int, dtype: str = "u1", height: int = 20, width: int = 30) -> np.ndarray:
    top = 1 if dtype[-2] == "f" else np.iinfo(dtype).max
    return (np.random.default_rng(count).random((height, width, count)) * top).astype(dtype)


SIX = samples_of(6)


def test_three_channels_are_decoded_as_rgb() -> None:
    for image in (scene(0), scene(1).convert("RGBA"), scene(2).convert("L"), scene(3).convert("CMYK")):
        content = encoded(image, "TIFF")
        assert np.array_equal(multichannel.decode(content, 3), decode.decode(content))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_is_exact_and_any_picture_is_converted(kind: str) -> None:
    grey = scene(0).convert("L")
    assert np.array_equal(multichannel.decode(encoded(grey, kind), 1)[:, :, 0], np.asarray(grey))
    assert np.array_equal(multichannel.decode(encoded(scene(1), kind), 1)[:, :, 0], np.asarray(scene(1).convert("L")))
    clear = Image.new("RGBA", (4, 3), (0, 0, 0, 0))
    assert multichannel.decode(encoded(clear, kind), 1).tolist() == [[[255]] * 4] * 3
    wide = np.uint16(np.asarray(grey)) * 257
    assert np.array_equal(multichannel.decode(encoded(Image.fromarray(wide), kind), 1)[:, :, 0], np.asarray(grey))


@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "PNG"), ("RGBA", "TIFF"), ("RGBA", "WEBP"), ("CMYK", "TIFF")])
def test_four_channels_are_those_of_the_file(mode: str, kind: str) -> None:
    four = samples_of(4)
    lossless = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    content = encoded(Image.frombytes(mode, (30, 20), four.tobytes()), kind, **lossless)
    assert np.array_equal(multichannel.decode(content, 4), four)


def test_a_palette_with_a_transparent_colour_has_four_channels() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    content = encoded(image, "PNG", transparency=1)
    assert multichannel.decode(content, 4).tolist() == [[[10, 20, 30, 255], [40, 50, 60, 0]]]
    assert np.asarray(multichannel.decode(encoded(scene(0).convert("LA"), "PNG"), 2)).shape == (72, 96, 2)


@pytest.mark.parametrize("content", [paged(SIX), banded(SIX), banded(SIX, separate=True)])
def test_six_bands_in_both_layouts_of_tiff(content: bytes) -> None:
    assert np.array_equal(multichannel.decode(content, 6), SIX)


def test_wide_samples_are_scaled_alike_in_all_bands() -> None:
    wide = samples_of(5, "u2")
    expected = np.rint(wide / 257).astype(np.uint8)
    assert np.array_equal(multichannel.decode(banded(wide), 5), expected)
    shares = samples_of(5, "f4") * np.float32([1, 1, 0.5, 0.5, 0.1])
    assert np.abs(multichannel.decode(banded(shares), 5) - 255 * shares).max() <= 0.51
    assert np.array_equal(multichannel.decode(banded(SIX, more={262: 0}), 6), 255 - SIX)  # white is zero


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright(orientation: int) -> None:
    four = samples_of(4)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.frombytes("RGBA", (30, 20), four.tobytes())
    turned = multichannel.decode(encoded(image, "PNG", exif=exif), 4)
    tagged = banded(four, more={274: orientation})
    assert np.array_equal(multichannel.decode(tagged, 4), turned)
    assert np.array_equal(turned[:, :, :3], decode.decode(encoded(image.convert("RGB"), "PNG", exif=exif)))
    facts = multichannel.facts(tagged, 4)
    assert (facts.width, facts.height, facts.orientation) == (turned.shape[1], turned.shape[0], orientation)


@pytest.mark.parametrize(
    ("content", "channels", "line"),
    [
        (encoded(scene(0), "PNG"), 4, "3 channels found, expected 4"),
        (encoded(scene(0).convert("L"), "JPEG"), 6, "1 channels found, expected 6"),
        (encoded(scene(0).convert("P"), "PNG"), 4, "3 channels found, expected 4"),
        (encoded(scene(0), "TIFF"), 6, "3 channels found, expected 6"),
        (paged(SIX), 5, "6 channels found, expected 5"),
        (banded(SIX), 13, "6 channels found, expected 13"),
        (banded(samples_of(7)), 3, r"7 channels found, expected 3 \(RGB\) or 1 \(grey\)"),
        (banded(samples_of(7)), 1, r"7 channels found, expected 3 \(RGB\) or 1 \(grey\)"),
    ],
)
def test_wrong_numbers_of_channels_have_their_own_fault(content: bytes, channels: int, line: str) -> None:
    with pytest.raises(ImageError, match=f"^{line}$") as caught:
        multichannel.decode(content, channels)
    assert caught.value.kind == "channels"


def test_other_faults() -> None:
    first, second = (Image.fromarray(samples_of(1, height=side)[:, :, 0]) for side in (20, 21))
    uneven = encoded(first, "TIFF", save_all=True, append_images=[second])
    for content, channels, kind, line in (
        (b"", 6, "empty_file", "the file is empty"),
        (b"no image", 6, "undecodable", "not an image"),
        (uneven, 2, "undecodable", "pages of different sizes or types, where each is one channel"),
        (banded(SIX, more={259: 7}), 6, "unsupported", "this compression is not supported for bands"),
        (banded(SIX, more={258: 12}), 6, "unsupported", "samples that do not have 8, 16 or 32 bits"),
        (banded(SIX)[:8], 6, "truncated", "the file is cut short"),
        (banded(SIX, more={273: 10**6}), 6, "truncated", "the file is cut short"),
        (png(60_000, 60_000), 4, "decompression_bomb", "60000 x 60000 pixels"),
        (banded(SIX, more={256: 60_000, 257: 60_000}), 6, "decompression_bomb", "60000 x 60000 pixels"),
        (banded(SIX, more={256: 9_000, 257: 9_000}), 6, "decompression_bomb", "54000 x 9000 pixels"),
    ):
        with pytest.raises(ImageError, match=line) as caught:
            multichannel.decode(content, channels)
        assert caught.value.kind == kind


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([paged(SIX), banded(SIX)]), st.data())
def test_damaged_files_raise_only_image_errors(content: bytes, data: st.DataObject) -> None:
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(content)))])
    for one in (bytes(damaged), cut):
        try:
            pixels = multichannel.decode(one, 6, max_pixels=10_000)
        except ImageError:
            continue
        assert pixels.shape[2] == 6


def test_facts_and_preview_of_bands() -> None:
    facts = multichannel.facts(banded(samples_of(6, "u2")), 6)
    assert (facts.format, facts.mode, facts.width, facts.height, facts.frames) == ("TIFF", "6 x uint16", 30, 20, 1)
    assert multichannel.facts(paged(SIX), 6).frames == 1
    assert multichannel.facts(paged(SIX), 3).frames == 6
    preview = multichannel.preview(banded(SIX), 6)
    assert np.array_equal(np.asarray(preview), SIX[:, :, :3])
    assert np.array_equal(multichannel.as_rgb(SIX[:, :, :2]), SIX[:, :, [0, 1, 1]])
    assert np.array_equal(multichannel.as_rgb(SIX[:, :, :1]), SIX[:, :, [0, 0, 0]])
    grey = scene(0).convert("L")
    assert multichannel.preview(encoded(grey, "PNG"), 1).mode == "RGB"


def test_a_loaded_pillow_image() -> None:
    assert multichannel.from_picture(scene(0).convert("RGBA"), 4).shape == (72, 96, 4)
    assert multichannel.from_picture(scene(0), 1).shape == (72, 96, 1)
    with pytest.raises(ImageError, match="3 channels found, expected 4"):
        multichannel.from_picture(scene(0), 4)
