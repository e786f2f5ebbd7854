"""Reading images: any common format and mode in, 8-bit RGB out, and a named fault for files that cannot be read.

Validation, training and the deployed model use the same `decode`, so that they all see the same pixels.
"""

import io
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from graft.core.errors import DataError
from graft.imaging import tiff
from graft.imaging.exif import TRANSPOSE, orientation_of

Pixels = npt.NDArray[np.uint8]
Fault = Literal["empty_file", "undecodable", "truncated", "decompression_bomb", "unsupported", "channels"]

MAX_PIXELS = 100_000_000
# A fixed list keeps rarely used parsers away from malicious files.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    # Some phones write this as .jpg; Pillow detects it through JPEG.
    "MPO": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
}

_WHITE = (255, 255, 255, 255)
# Recognised but not supported: the message names the format instead of calling the file broken.
_KNOWN: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("HEIC or AVIF", lambda head: head[4:8] == b"ftyp"),
    ("JPEG 2000", lambda head: head[:4] == b"\xff\x4f\xff\x51" or head[4:8] == b"jP  "),
    ("JPEG XL", lambda head: head[:2] == b"\xff\x0a" or head[4:8] == b"JXL "),
    ("PDF", lambda head: head[:5] == b"%PDF-"),
    ("SVG", lambda head: b"<svg" in head.lower()),
    ("Photoshop", lambda head: head[:4] == b"8BPS"),
    ("icon", lambda head: head[:4] in (b"\0\0\1\0", b"\0\0\2\0")),
    ("PNM", lambda head: head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace()),
    ("NumPy", lambda head: head[:6] == b"\x93NUMPY"),
    ("DICOM", lambda head: head[128:132] == b"DICM"),
)


class ImageError(DataError):
    """An image that cannot be read; `kind` names the fault, the message is one clause about the content."""

    def __init__(self, kind: Fault, message: str) -> None:
        super().__init__(message)
        self.kind: Fault = kind


def decode(content: bytes, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Return the picture of a file as uint8 RGB of shape (height, width, 3), upright.

    Takes the first frame, applies the EXIF orientation, composites transparency over white, and converts palette, grey,
    16-bit and CMYK images.

    Raises:
        ImageError: if it is empty, not a supported image, broken, truncated, or has more than `max_pixels` pixels.
    """
    return np.asarray(upright_rgb(load(open_image(content, max_pixels))))


def open_image(content: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open a file's header; pixels are read by `load`.

    Raises:
        ImageError: if it is empty, not a supported image, or has more than `max_pixels` pixels.
    """
    if not content:
        raise ImageError("empty_file", "the file is empty (0 bytes)")
    # Pillow's own limit warns below twice its value and cannot be set per call: ours replaces it.
    Image.MAX_IMAGE_PIXELS = None
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise _unidentified(content) from error
    except Exception as error:  # a parser may raise nearly anything on malicious bytes
        raise broken(error, "header", content) from error
    check_size(*image.size, max_pixels)
    return image


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Check that a picture has at most `max_pixels` pixels.

    Raises:
        ImageError: if it has more.
    """
    if width * height > max_pixels:
        raise ImageError(
            "decompression_bomb",
            f"{width} x {height} pixels ({width * height:,}), more than the {max_pixels:,} allowed",
        )


def load(image: Image.Image) -> Image.Image:
    """Decode the first frame of an opened image in place and return it.

    Raises:
        ImageError: if the data is broken or truncated.
    """
    try:
        image.load()
    except Exception as error:  # see open_image
        raise broken(error, "pixels") from error
    return image


def upright_rgb(image: Image.Image, orientation: int | None = None) -> Image.Image:
    """Return a loaded image as upright RGB.

    Args:
        image: a loaded image.
        orientation: the EXIF orientation, if the caller knows it already.
    """
    turn = TRANSPOSE.get(orientation_of(image) if orientation is None else orientation)
    rgb = _rgb(image)
    return rgb.transpose(turn) if turn is not None else rgb


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(eight_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, _WHITE), rgba).convert("RGB")
    return image.convert("RGB")


def eight_bits(values: npt.NDArray[np.generic]) -> Pixels:
    """Scale wide integers or floats of any shape to 0..255; if no float exceeds 1, white is 1."""
    wide = np.nan_to_num(values.astype(np.float64))
    top = float(wide.max(initial=0.0))
    if np.issubdtype(values.dtype, np.floating):
        white = 1.0 if top <= 1.0 else 255.0 if top <= 255.0 else 65535.0 if top <= 65535.0 else top
    else:
        white = 65535.0 if top <= 65535.0 else 2.0**32 - 1 if top >= 2.0**31 else 2.0**31 - 1
    return np.clip(np.rint(wide * (255.0 / white)), 0, 255).astype(np.uint8)


def wrong_channels(found: int, expected: int | str) -> ImageError:
    """Return the error for a picture with another number of channels than expected."""
    return ImageError("channels", f"{found} channels found, expected {expected}")


def _unidentified(content: bytes) -> ImageError:
    with suppress(Exception):  # this parser may fail on the file too
        if (found := tiff.pages(content)[0].bands) not in (1, 3):
            return wrong_channels(found, "3 (RGB) or 1 (grey)")
    head = content[:512]
    for name, matches in _KNOWN:
        if matches(head):
            return ImageError("unsupported", f"{name} is not supported; convert it to JPEG or PNG")
    return ImageError("undecodable", "not an image in a supported format (JPEG, PNG, WebP, BMP, GIF, TIFF)")


def broken(error: Exception, part: str, content: bytes = b"") -> ImageError:
    """Return the error for a file whose decoder failed while reading `part`."""
    text = " ".join(str(error).split()) or type(error).__name__
    cut = isinstance(error, (EOFError, struct.error)) or any(
        word in text.lower() for word in ("truncated", "broken data stream", "not enough", "end of file", "only got")
    )
    if cut or _is_cut_riff(content):
        return ImageError("truncated", f"the file is cut short ({text})")
    return ImageError("undecodable", f"broken {part} ({text})")


def _is_cut_riff(content: bytes) -> bool:
    """Return whether a WebP file is shorter than its header says; its decoder gives no reason."""
    return content[:4] == b"RIFF" and len(content) >= 12 and int.from_bytes(content[4:8], "little") + 8 > len(content)
