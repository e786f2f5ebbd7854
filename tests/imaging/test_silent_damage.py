"""Damage about which a decoder says nothing is found; sound files, blank ones too, are sound."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from graft.imaging.decode import ImageError, decode
from graft.imaging.jxl import size_of
from tests.support.encoded import encoded, scene

SCENE = scene(1, 200, 150)
BLANKS = {
    "black": Image.new("RGB", (700, 500)),
    "white": Image.new("RGB", (700, 500), "white"),
    "half": Image.fromarray(np.repeat([[[250, 250, 250]], [[0, 0, 0]]], 250, axis=0).repeat(700, axis=1).astype("u1")),
}
SAVED = {
    "png": ("PNG", {}),
    "png interlaced": ("PNG", {"interlace": True}),
    "gif": ("GIF", {}),
    "bmp": ("BMP", {}),
    "webp": ("WEBP", {}),
    "webp lossless": ("WEBP", {"lossless": True}),
    "tiff": ("TIFF", {}),
    "tiff lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "avif": ("AVIF", {}),
}


def saved(image: Image.Image, name: str) -> bytes:
    image_format, options = SAVED[name]
    return encoded(image.quantize(64) if image_format == "GIF" else image, image_format, **options)


@pytest.mark.parametrize("name", SAVED)
def test_sound_files_are_read_blank_ones_too(name: str) -> None:
    for image in (SCENE, *BLANKS.values()):
        assert decode(saved(image, name)).shape == (image.height, image.width, 3)


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("share", [0.4, 0.9])
def test_cut_files_are_named_as_cut(name: str, share: float) -> None:
    content = saved(SCENE, name)
    with pytest.raises(ImageError) as caught:
        decode(content[: int(share * len(content))])
    assert caught.value.kind in ("truncated", "undecodable"), caught.value


@pytest.mark.parametrize("name", ["webp lossless", "tiff deflate", "tiff lzw", "gif", "png"])
def test_a_hole_of_zeros_in_compressed_data_is_found(name: str) -> None:
    content = bytearray(saved(SCENE, name))
    middle = len(content) // 2
    content[middle : middle + 2048] = bytes(2048)
    with pytest.raises(ImageError):
        decode(bytes(content))


def holed(content: bytes, filling: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + filling + content[middle + len(filling) :]


NOISE = np.random.default_rng(0).bytes(600).replace(b"\xff", b"\0")
IN_STRIPS = {
    "JPEG, zeros": ("jpeg", bytes(600), "the decoder says: Corrupt JPEG data"),
    "JPEG, noise": ("jpeg", NOISE, "the decoder says: Corrupt JPEG data"),
    "fax": ("group4", bytes(600), "a hole of zeros"),
    "packed bits": ("packbits", bytes(600), "does not fill its rows"),
}


@pytest.mark.parametrize("name", IN_STRIPS)
def test_damage_in_a_strip_of_a_tiff_is_heard(name: str) -> None:
    compression, filling, words = IN_STRIPS[name]
    for image in (SCENE, *BLANKS.values()):
        picture = image.convert("1") if compression == "group4" else image
        assert decode(encoded(picture, "TIFF", compression=compression)).shape == (image.height, image.width, 3)
    picture = SCENE.convert("1") if compression == "group4" else SCENE
    with pytest.raises(ImageError, match=words) as caught:
        decode(holed(encoded(picture, "TIFF", compression=compression), filling))
    assert caught.value.kind == "damaged"


def png_parts(content: bytes) -> list[tuple[bytes, bytes]]:
    at, parts = 8, []
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        parts.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    return parts


def png_of(parts: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def test_a_png_whose_checksum_is_wrong_is_damaged_though_its_pixels_inflate() -> None:
    content = bytearray(encoded(SCENE, "PNG", compress_level=0))
    at = content.index(b"IDAT") - 4
    length = int.from_bytes(content[at : at + 4], "big")
    content[at + 8 + length] ^= 1
    with pytest.raises(ImageError, match="checksum of its part IDAT"):
        decode(bytes(content))
    sound = png_of(png_parts(encoded(SCENE, "PNG")))
    assert decode(sound[:-12] + b"\0\0\0\x01tEXtx\0\0\0\0" + sound[-12:]).shape == (150, 200, 3)


def interlaced(image: Image.Image) -> bytes:
    """Return a grey PNG in Adam7's order, which Pillow does not write."""
    pixels = np.asarray(image.convert("L"))
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = [b"\0" + row.tobytes() for left, top, across, down in passes for row in pixels[top::down, left::across]]
    header = struct.pack(">IIBBBBB", image.width, image.height, 8, 0, 0, 0, 1)
    return png_of([(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")])


@pytest.mark.parametrize("how", [interlaced, lambda image: encoded(image, "PNG")])
def test_a_png_that_lacks_rows_is_cut_short(how: object) -> None:
    whole = how(SCENE)  # type: ignore[operator]
    assert decode(whole).shape == (150, 200, 3)
    parts = png_parts(whole)
    inflated = zlib.decompress(b"".join(data for kind, data in parts if kind == b"IDAT"))
    few = zlib.compress(inflated[: len(inflated) // 3])
    cut = png_of([parts[0], (b"IDAT", few), (b"IEND", b"")])
    with pytest.raises(ImageError) as caught:
        decode(cut)
    assert caught.value.kind == "truncated"


def gif_with(content: bytes, keep: float) -> bytes:
    """Return a GIF whose LZW data is cut after a share of its blocks, with an end code and a trailer."""
    at = 13 + (3 << (content[10] & 7) + 1)
    while content[at] == 0x21:
        at += 2
        while content[at]:
            at += 1 + content[at]
        at += 1
    at += 11
    blocks = []
    place = at
    while content[place]:
        blocks.append(content[place : place + 1 + content[place]])
        place += 1 + content[place]
    return content[:at] + b"".join(blocks[: int(keep * len(blocks))]) + b"\0;"


def test_a_gif_that_lacks_rows_is_cut_short() -> None:
    whole = saved(SCENE, "gif")
    assert decode(gif_with(whole, 1.0)).shape == (150, 200, 3)
    with pytest.raises(ImageError) as caught:
        decode(gif_with(whole, 0.4))
    assert caught.value.kind == "truncated"


def rle(rows: list[bytes], height: int, end: bytes) -> bytes:
    """Return a BMP of 8 bits in run-length code with these coded rows."""
    palette = b"".join(bytes([v, v, v, 0]) for v in range(256))
    data = b"".join(rows) + end
    start = 14 + 40 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, 8, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + palette + data


def test_a_bmp_in_run_length_code_that_stops_is_cut_short() -> None:
    row = bytes([8, 200, 0, 0])
    assert decode(rle([row] * 6, 6, b"\0\1")).shape == (6, 8, 3)
    with pytest.raises(ImageError):
        decode(rle([row] * 2, 6, b""))


def test_a_tiff_that_lacks_a_strip_is_damaged() -> None:
    content = bytearray(encoded(SCENE, "TIFF", compression="tiff_lzw", strip_size=3000))
    with Image.open(io.BytesIO(bytes(content))) as image:
        sizes = image.tag_v2[279]
    assert len(sizes) > 3
    at = content.index(struct.pack(f"<{len(sizes)}{'H' if max(sizes) < 2**16 else 'I'}", *sizes))
    content[at : at + 2] = b"\0\0"
    with pytest.raises(ImageError):
        decode(bytes(content))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_tiff_without_its_directory_is_said_to_be_cut() -> None:
    content = encoded(SCENE, "TIFF", compression="tiff_lzw")
    with pytest.raises(ImageError, match=r"cut short .its directory is missing"):
        decode(content[: len(content) // 2])


@pytest.mark.parametrize("size", [(8, 8), (256, 256), (200, 150), (37, 1234), (640, 480), (5000, 3)])
def test_the_size_of_a_jpeg_xl_is_read_without_its_decoder(size: tuple[int, int]) -> None:
    pytest.importorskip("pillow_jxl")
    for more in ({}, {"use_container": True}):
        assert size_of(encoded(Image.new("RGB", size), "JXL", **more)) == size
