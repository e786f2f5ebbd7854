"""Transform: decoding agrees with the general decoder; crop and resize have their usual meaning."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torchvision.transforms import v2

from graft.core.errors import DataError
from graft.imaging import decode as images
from graft.imaging import multichannel
from graft.imaging.transform import Transform, decode


def _file(array: np.ndarray, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def _photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return smooth colour waves: like a photo and unlike noise, they survive JPEG and resizing."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (7 + c + seed) + c) + np.cos(columns / (11 + 2 * c)) for c in range(3)]
    return np.uint8(np.stack(waves, axis=2) * 60 + 128)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}])
def test_jpeg_decodes_as_pillow_does(options: dict[str, object]) -> None:
    content = _file(_photo(101, 133), "JPEG", **options)
    difference = decode(content).permute(1, 2, 0).numpy().astype(int) - images.decode(content)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = _file(_photo(40, 64), "JPEG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    found = decode(content).permute(1, 2, 0).numpy()
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP", "TIFF", "GIF"])
def test_other_formats_decode_exactly(kind: str) -> None:
    content = _file(_photo(33, 47), kind)
    assert np.array_equal(decode(content).permute(1, 2, 0).numpy(), images.decode(content))


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "LA", "I;16", "CMYK"])
def test_unusual_modes_agree_with_the_general_decoder(mode: str) -> None:
    photo = Image.fromarray(_photo(33, 47))
    stream = io.BytesIO()
    if mode == "I;16":
        Image.fromarray(np.uint16(_photo(33, 47)[:, :, 0]) * 257).save(stream, "PNG")
    else:
        photo.convert(mode).save(stream, "JPEG" if mode == "CMYK" else "PNG")
    assert np.array_equal(decode(stream.getvalue()).permute(1, 2, 0).numpy(), images.decode(stream.getvalue()))


def test_large_jpeg_is_decoded_at_a_fraction_of_its_size() -> None:
    blobs = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    photo = np.asarray(Image.fromarray(blobs).resize((1600, 1200), Image.Resampling.BICUBIC))
    content = _file(photo, "JPEG", quality=95)
    assert decode(content, 300).shape == (3, 300, 400)
    assert decode(content, 301).shape[1] >= 301
    transform = Transform(size=64, crop_fraction=0.875)
    # The crop starts at whole pixels of the smaller picture: up to a quarter of an output pixel off.
    assert (transform.pixels(content).float() - transform.pixels(photo).float()).abs().mean() < 5


def test_shared_photos_decode_as_pillow_does(shared: Path) -> None:
    files = sorted((shared / "data" / "hymenoptera" / "val").rglob("*.*"))[:40]
    for file in files:
        content = file.read_bytes()
        difference = decode(content).permute(1, 2, 0).numpy().astype(int) - images.decode(content)
        assert np.abs(difference).max() <= 2, file.name


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_no_image_is_refused(content: bytes) -> None:
    with pytest.raises(DataError):
        decode(content)


def test_truncated_jpeg_is_refused() -> None:
    content = _file(_photo(200, 200), "JPEG")
    with pytest.raises(DataError):
        decode(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("array", "line"),
    [
        (np.zeros((4, 4, 3), np.float32), "image array of float32 (4, 4, 3): expected uint8"),
        (np.zeros((4, 4, 5), np.uint8), "image array of 5 channels: expected 3 (RGB) or 1 (grey)"),
        (np.zeros((0, 4, 3), np.uint8), "image array of uint8 (0, 4, 3): expected uint8"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, line: str) -> None:
    with pytest.raises(DataError, match="^" + line.replace("(", r"\(").replace(")", r"\)")):
        Transform(size=8).pixels(array)


def test_array_and_file_give_the_same_pixels() -> None:
    photo = _photo(50, 70)
    transform = Transform(size=32, crop_fraction=0.875)
    assert torch.equal(transform.pixels(photo), transform.pixels(_file(photo, "PNG")))


def test_grey_is_repeated() -> None:
    grey = _photo(50, 70)[:, :, 0]
    pixels = Transform(size=32).pixels(grey)
    assert torch.equal(pixels[0], pixels[1])
    assert torch.equal(pixels[0], pixels[2])
    assert torch.equal(pixels, Transform(size=32).pixels(grey[:, :, None]))


def test_grey_of_any_picture_is_the_same_from_file_and_array() -> None:
    transform = Transform(size=32, channels=1, mean=(0.5,), std=(0.5,))
    photo = _photo(50, 70)
    grey = np.asarray(Image.fromarray(photo).convert("L"))
    pixels = transform.pixels(grey)
    assert pixels.shape == transform.shape == (1, 32, 32)
    for same in (photo, grey[:, :, None], _file(photo, "PNG"), _file(grey, "PNG")):
        assert torch.equal(transform.pixels(same), pixels)
    jpeg = _file(photo, "JPEG")
    assert np.abs(decode(jpeg, 0, 1)[0].numpy().astype(int) - multichannel.decode(jpeg, 1)[:, :, 0]).max() <= 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [2, 4, 7])
def test_every_channel_is_cropped_and_resized_independently(channels: int, interpolation: str) -> None:
    stacked = np.concatenate([_photo(90, 70, seed) for seed in range(3)], axis=2)[:, :, :channels]
    how = {"size": 32, "crop_fraction": 0.875, "interpolation": interpolation, "mean": (0.5,), "std": (0.5,)}
    pixels = Transform(channels=channels, **how).pixels(stacked)
    alone = Transform(channels=1, **how)
    for channel in range(channels):
        assert torch.equal(pixels[channel], alone.pixels(np.ascontiguousarray(stacked[:, :, channel]))[0])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (300, 300), (90, 120)])
def test_agrees_with_resize_and_centre_crop_of_torchvision(interpolation: str, height: int, width: int) -> None:
    photo = _photo(height, width)
    size, fraction = 112, 0.875
    mode = v2.InterpolationMode(interpolation)
    usual = v2.Compose([v2.Resize(round(size / fraction), interpolation=mode, antialias=True), v2.CenterCrop(size)])
    expected = usual(torch.from_numpy(photo).permute(2, 0, 1))
    found = Transform(size=size, crop_fraction=fraction, interpolation=interpolation).pixels(photo)  # type: ignore[arg-type]
    # Rounding to whole pixels may shift the window by half an output pixel, no more.
    assert (found.float() - expected.float()).abs().mean() < 3.5


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    size=st.integers(1, 64),
    fraction=st.floats(0.05, 1.0),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
def test_any_size_gives_the_same_square(
    height: int, width: int, size: int, fraction: float, interpolation: str
) -> None:
    transform = Transform(size=size, crop_fraction=fraction, interpolation=interpolation)  # type: ignore[arg-type]
    colour = np.uint8([10, 120, 250])
    pixels = transform.pixels(np.broadcast_to(colour, (height, width, 3)))
    assert pixels.shape == (3, size, size)
    assert pixels.dtype == torch.uint8
    assert pixels.is_contiguous()
    assert all((pixels[c] == int(colour[c])).all() for c in range(3))


def test_normalise_is_the_usual_formula_on_any_batch() -> None:
    transform = Transform(size=4)
    pixels = torch.randint(0, 256, (2, 5, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor(transform.mean).view(3, 1, 1), torch.tensor(transform.std).view(3, 1, 1)
    torch.testing.assert_close(transform.normalise(pixels), (pixels / 255 - mean) / std)
    assert transform.normalise(pixels[0, 0]).dtype == torch.float32
    assert pixels.dtype == torch.uint8


def test_roundtrips_through_json() -> None:
    transform = Transform(size=96, crop_fraction=0.875, interpolation="bicubic", mean=(0.5,), std=(0.5,))
    assert Transform.model_validate_json(transform.model_dump_json()) == transform
    six = Transform(size=96, channels=6, mean=(0.1,) * 6, std=(0.2,) * 6)
    assert Transform.model_validate_json(six.model_dump_json()) == six
    # Files from before other channels than RGB were supported.
    assert Transform.model_validate({"size": 96}).channels == 3
    assert "channels" not in repr(Transform(size=96))
    with pytest.raises(ValueError, match="mean: 3 numbers for 6 channels, expected one for each"):
        Transform(size=96, channels=6)
