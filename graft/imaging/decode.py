"""Reading images: any common format and mode in, 8-bit RGB out, and a named fault for files that cannot be read.

Validation, training and the deployed model use the same `decode`, so that they all see the same pixels.
"""

import io
import struct
import zlib
from contextlib import suppress
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from graft.core.errors import DataError
from graft.imaging import jpeg, tiff
from graft.imaging.exif import TRANSPOSE, orientation_of
from graft.imaging.signatures import HEAD_BYTES, known_format

Pixels = npt.NDArray[np.uint8]
Fault = Literal["empty_file", "undecodable", "truncated", "damaged", "decompression_bomb", "unsupported", "channels"]

MAX_PIXELS = 100_000_000
# A fixed list keeps rarely used parsers away from malicious files.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

_WHITE = (255, 255, 255, 255)
# Longer texts and profiles are left out: what they hold is not needed, and a few bytes can inflate to gigabytes.
PngImagePlugin.MAX_TEXT_CHUNK = 8 * 2**20
_PNG_TEXTS = (b"zTXt", b"iTXt", b"tEXt", b"iCCP")
_PNG_HEAD = 8


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
    return np.asarray(upright_rgb(load(open_image(content, max_pixels), content)))


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
        image = _opened(content)
    except UnidentifiedImageError as error:
        raise _unidentified(content) from error
    except Exception as error:  # a parser may raise nearly anything on malicious bytes
        raise broken(error, "header", content) from error
    check_size(*image.size, max_pixels)
    return image


def _opened(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except ValueError as error:
        if "MAX_TEXT" not in str(error):
            raise
        return Image.open(io.BytesIO(_without_texts(content)), formats=FORMATS)


def _without_texts(png: bytes) -> bytes:
    """Return a PNG without its texts and colour profile."""
    kept, at = [png[:_PNG_HEAD]], _PNG_HEAD
    while at + 8 <= len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] not in _PNG_TEXTS:
            kept.append(png[at:end])
        at = end
    return b"".join(kept)


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


def load(image: Image.Image, content: bytes = b"") -> Image.Image:
    """Decode the first frame of an opened image in place and return it.

    Args:
        image: what `open_image` returned.
        content: what it was opened from: with it, damage that Pillow passes over in silence is found too.

    Raises:
        ImageError: if the data is broken or truncated.
    """
    try:
        image.load()
    except Exception as error:  # see open_image
        text = str(error)
        if "MAX_TEXT" in text and content:  # the text follows the pixels
            return load(open_image(_without_texts(content), image.width * image.height), content)
        raise broken(error, "pixels") from error
    if not content:
        return image
    if image.format in ("JPEG", "MPO"):
        check_jpeg(*jpeg.listen(content))
    elif image.format == "PNG" and _ends_in_nothing(image) and _lacks_rows(content, image.height):
        raise ImageError("truncated", "the file is cut short (the compressed data ends before the last row)")
    return image


def check_jpeg(warning: str, damaged: bool) -> None:
    """Check what the decoder of a JPEG said.

    Raises:
        ImageError: if it is about damage.
    """
    if damaged and warning.lower().startswith("premature end of jpeg file"):
        raise ImageError("truncated", f"the file is cut short ({warning})")
    if damaged:
        raise ImageError("damaged", f"the decoder says: {warning}")


def _ends_in_nothing(image: Image.Image) -> bool:
    """Return whether the last row is all zero, as Pillow leaves a row that is not in the file."""
    return not any(image.crop((0, image.height - 1, image.width, image.height)).tobytes())


def _lacks_rows(png: bytes, height: int) -> bool:
    """Return whether the pixels of a PNG that is not interlaced inflate to fewer rows than it has."""
    inflate, size, at = zlib.decompressobj(), 0, _PNG_HEAD
    depth, colour, interlaced = png[24], png[25], png[28]
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
    row = 1 + (int.from_bytes(png[16:20], "big") * depth * samples + 7) // 8
    while at + 8 <= len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] == b"IDAT":
            size += len(inflate.decompress(png[at + 8 : at + 8 + length]))
        at += 12 + length
    return not interlaced and size < row * height


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
    name = known_format(content[:HEAD_BYTES])
    if name and name not in FORMATS:
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
