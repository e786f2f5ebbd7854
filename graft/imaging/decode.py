"""Reading images: any common format and mode in, 8-bit RGB out, and a named fault for files that cannot be read.

Validation, training and the deployed model use the same `decode`, so that they all see the same pixels.
"""

import io
import struct
from contextlib import suppress
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from graft.core.errors import DataError
from graft.imaging import formats, jpeg, jxl, tiff
from graft.imaging.exif import TRANSPOSE, orientation_of
from graft.imaging.signatures import HEAD_BYTES, image_format, known_format
from graft.imaging.silent_damage import find_damage
from graft.imaging.value_range import ValueRange, eight_bits

Pixels = npt.NDArray[np.uint8]
Fault = Literal["empty_file", "undecodable", "truncated", "damaged", "decompression_bomb", "unsupported", "channels"]

MAX_PIXELS = 100_000_000

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


def decode(content: bytes, max_pixels: int = MAX_PIXELS, values: ValueRange | None = None) -> Pixels:
    """Return the picture of a file as uint8 RGB of shape (height, width, 3), upright.

    Takes the first frame, applies the EXIF orientation, composites transparency over white, and converts palette, grey,
    16-bit and CMYK images.

    Args:
        content: the file's bytes.
        max_pixels: a picture with more pixels is refused.
        values: what is black and white in wide images, see `value_range`.

    Raises:
        ImageError: if it is empty, not a supported image, broken, truncated, or has more than `max_pixels` pixels.
    """
    return np.asarray(upright_rgb(load(open_image(content, max_pixels), content), values=values))


def open_image(content: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open a file's header; pixels are read by `load`.

    Raises:
        ImageError: if it is empty, not a supported image, or has more than `max_pixels` pixels.
    """
    if not content:
        raise ImageError("empty_file", "the file is empty (0 bytes)")
    # Pillow's own limit warns below twice its value and cannot be set per call: ours replaces it.
    Image.MAX_IMAGE_PIXELS = None
    name = image_format(content[:HEAD_BYTES])
    # What does not begin like an image may be one that only Pillow knows: a BMP with something in its reserved bytes.
    tried = formats.COMMON if not name else tuple(filter(None, [formats.pillow_format(name)]))
    if not tried:
        raise _unidentified(content)
    if name == "JPEG XL":
        _check_jxl(content, max_pixels)
    try:
        image = _opened(content, tried)
    except UnidentifiedImageError as error:
        floats = _grey_floats(content, max_pixels)
        if floats is None:
            raise _unidentified(content) from error
        image = floats
    except Exception as error:  # a parser may raise nearly anything on malicious bytes
        raise broken(error, "header", content) from error
    check_size(*image.size, max_pixels)
    return image


def _opened(content: bytes, tried: tuple[str, ...]) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=tried)
    except ValueError as error:
        if "MAX_TEXT" not in str(error):
            raise
        return Image.open(io.BytesIO(_without_texts(content)), formats=tried)


def _grey_floats(content: bytes, max_pixels: int) -> Image.Image | None:
    """Return a TIFF of one band of 16- or 64-bit floats, which Pillow does not open, with 32 bits; else None."""
    try:
        page = tiff.pages(content)[0]
        if page.bands != 1 or page.dtype.kind != "f":
            return None
    except Exception:  # see open_image
        return None
    check_size(page.width, page.height, max_pixels)
    try:
        image = Image.fromarray(tiff.read(content, page)[:, :, 0].astype(np.float32))
    except Exception as error:
        raise broken(error, "pixels") from error
    image.format = "TIFF"
    return image


def _check_jxl(content: bytes, max_pixels: int) -> None:
    """Check the size of a JPEG XL, whose decoder makes all pixels when it opens the file."""
    try:
        check_size(*jxl.size_of(content), max_pixels)
    except ValueError as error:
        raise broken(error, "header", content) from error


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
    elif damage := find_damage(str(image.format), content, _ends_in_nothing(image)):
        raise ImageError("truncated" if "cut short" in damage else "damaged", damage)
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


def upright_rgb(image: Image.Image, orientation: int | None = None, values: ValueRange | None = None) -> Image.Image:
    """Return a loaded image as upright RGB.

    Args:
        image: a loaded image.
        orientation: the EXIF orientation, if the caller knows it already.
        values: what is black and white if it is a wide image.

    Raises:
        ImageError: if it is a wide image of a type that has no range of its own, and none is given.
    """
    turn = TRANSPOSE.get(orientation_of(image) if orientation is None else orientation)
    rgb = _rgb(image, values)
    return rgb.transpose(turn) if turn is not None else rgb


def is_wide(image: Image.Image) -> bool:
    """Return whether a picture has samples of more than 8 bits, which Pillow reads only if they are grey."""
    return image.mode.startswith(("I", "F"))


def has_empty_alpha(image: Image.Image) -> bool:
    """Return whether a loaded image has colours, but an alpha of 0 everywhere: some programs leave it unset in BMP."""
    if image.mode not in ("RGBA", "LA") or image.getchannel("A").getextrema() != (0, 0):
        return False
    *colours, _ = image.split()
    return any(least != greatest for least, greatest in (band.getextrema() for band in colours))


def _rgb(image: Image.Image, values: ValueRange | None) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if is_wide(image):
        return Image.fromarray(narrowed(np.asarray(image), values)).convert("RGB")
    if image.has_transparency_data and not has_empty_alpha(image):
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, _WHITE), rgba).convert("RGB")
    return image.convert("RGB")


def narrowed(samples: npt.NDArray[np.generic], values: ValueRange | None) -> Pixels:
    """Return wide samples as 8 bits, see `value_range.eight_bits`.

    Raises:
        ImageError: if no range is known.
    """
    try:
        return eight_bits(samples, values)
    except ValueError as error:
        raise ImageError("unsupported", str(error)) from error


def wrong_channels(found: int, expected: int | str) -> ImageError:
    """Return the error for a picture with another number of channels than expected."""
    return ImageError("channels", f"{found} channels found, expected {expected}")


def _unidentified(content: bytes) -> ImageError:
    with suppress(Exception):  # this parser may fail on the file too
        if (found := tiff.pages(content)[0].bands) not in (1, 3):
            return wrong_channels(found, "3 (RGB) or 1 (grey)")
    name = known_format(content[:HEAD_BYTES])
    if name and not formats.pillow_format(name):
        return ImageError("unsupported", f"{name} is not supported; {formats.remedy(name)}")
    if tiff.is_tiff(content) and tiff.ends_before_directory(content):
        return ImageError("truncated", "the file is cut short (its directory is missing)")
    if name:
        return ImageError("undecodable", f"broken header (it begins like {name}, but cannot be opened)")
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
