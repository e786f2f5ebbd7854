"""HEIC, AVIF and JPEG XL are read where their decoder is there; where it is not, the reason names it."""

import numpy as np
import pytest
from PIL import Image

from graft.imaging import formats
from graft.imaging.decode import ImageError, decode
from graft.imaging.header import facts
from graft.imaging.signatures import HEAD_BYTES, image_format
from graft.quality.image_statistics import examine
from tests.support.encoded import encoded, scene

NAMES = {"AVIF": "AVIF", "HEIF": "HEIF", "JPEG XL": "JXL"}


def file_of(name: str, **options: object) -> bytes:
    if not formats.pillow_format(name):
        pytest.skip(f"no decoder of {name} here")
    return encoded(scene(2), NAMES[name], **options)


@pytest.mark.parametrize("name", NAMES)
def test_they_are_read_as_any_image(name: str) -> None:
    content = file_of(name)
    assert image_format(content[:HEAD_BYTES]) == name
    difference = np.abs(decode(content).astype(int) - np.asarray(scene(2)).astype(int)).mean()
    assert difference < 12  # lossy, and scene has noise
    found = facts(content)
    assert (found.width, found.height, found.format) == (96, 72, NAMES[name])
    assert examine(content).fault == ""


@pytest.mark.parametrize("name", NAMES)
def test_the_limit_of_pixels_holds(name: str) -> None:
    assert examine(file_of(name), max_pixels=1000).fault == "decompression_bomb"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_cut_ones_are_named(name: str, share: float) -> None:
    content = file_of(name)
    assert examine(content[: int(share * len(content))]).fault in ("truncated", "undecodable")


@pytest.mark.parametrize("name", NAMES)
def test_a_turned_one_is_upright(name: str) -> None:
    picture = Image.fromarray(np.kron([[255, 0, 0, 0], [255, 0, 0, 0]], np.ones((32, 32))).astype(np.uint8))
    if not formats.pillow_format(name):
        pytest.skip(f"no decoder of {name} here")
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(picture.convert("RGB"), NAMES[name], exif=exif.tobytes())
    pixels = decode(content)
    # HEIC and AVIF turn the picture; the specification of JPEG XL says that its own orientation alone counts.
    if name == "JPEG XL":
        assert pixels.shape == (64, 128, 3)
    else:
        assert pixels.shape == (128, 64, 3)
        assert pixels[:16].mean() > 200 > 50 > pixels[48:].mean()


def test_without_a_decoder_the_reason_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(600)
    monkeypatch.setattr(formats, "_registered", lambda name: None)
    monkeypatch.setattr(formats.features, "check", lambda name: False)
    with pytest.raises(ImageError, match="HEIF is not supported; install pillow-heif") as caught:
        decode(heic)
    assert caught.value.kind == "unsupported"
    with pytest.raises(ImageError, match="AVIF is not supported; convert it"):
        decode(b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + bytes(600))
    with pytest.raises(ImageError, match="JPEG XL is not supported; install pillow-jxl-plugin"):
        decode(b"\xff\x0a" + bytes(600))
