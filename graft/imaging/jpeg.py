"""JPEG by libjpeg-turbo, and what it says about the data: Pillow reads the same pixels, but passes no warning on.

libjpeg fills what it cannot read with grey and goes on. Its warnings are the only sign of that, so a picture about
whose coded data it warns counts as damaged. Warnings about the header alone leave the pixels as they are.
"""

import contextlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

_ORIENTATION_TAG = 0x0112
_START_OF_FRAME = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_DAMAGE = ("corrupt jpeg data", "premature end", "inconsistent progression", "invalid progressive")
_COMPONENTS = 5
"""Place of their number in the segment of a frame."""
_COLOURS = {1: "GRAY", 3: "RGB", 4: "CMYK"}


@dataclass(frozen=True, slots=True)
class Frame:
    """What the header of a JPEG of 8 bits says that this decoder reads; pixels as stored, not upright."""

    width: int
    height: int
    components: int
    orientation: int | None
    """In EXIF, 1 if there is none; None if something else than EXIF may say it."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Pixels as stored, uint8 (height, width, 1, 3 or 4), and what the decoder says about them."""

    pixels: npt.NDArray[np.uint8]
    warning: str = ""
    """Empty if it says nothing."""
    damaged: bool = False
    """Whether the warning is about the coded data: some pixels are made up."""


def frame(content: bytes) -> Frame | None:
    """Return the frame of a JPEG that libjpeg-turbo decodes; None for any other file."""
    if content[:3] != b"\xff\xd8\xff":
        return None
    at = 2
    orientation: int | None = 1
    while at + 10 < len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        segment = content[at + 4 : at + 2 + length]
        if marker in _START_OF_FRAME and len(segment) > _COMPONENTS:
            height, width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
            bits, components = segment[0], segment[_COMPONENTS]
            known = bits == 8 and components in _COLOURS and width * height > 0
            return Frame(width, height, components, orientation) if known else None
        if marker in _START_OF_FRAME or marker in _OTHER_FRAMES or marker == 0xDA:
            return None
        if marker == 0xE1 and segment.startswith(b"Exif\0\0"):
            orientation = _orientation(segment)
        elif marker == 0xE1 and b"tiff:Orientation" in segment:
            orientation = None
        at += 2 + length
    return None


def decode(content: bytes, colour: str, height: int = 0, width: int = 0) -> Decoded | None:
    """Decode a JPEG that has a `frame`.

    Args:
        content: the file's bytes.
        colour: RGB, GRAY or CMYK.
        height: if positive, the picture may be decoded at a fraction of its size that has at least this height.
        width: the same for its width.

    Returns:
        The pixels; None if this decoder cannot read it, which need not mean that the file is broken.
    """
    try:
        return Decoded(simplejpeg.decode_jpeg(content, colour, min_height=height, min_width=width))
    except ValueError as error:
        warning = " ".join(str(error).split())
    try:
        pixels = simplejpeg.decode_jpeg(content, colour, min_height=height, min_width=width, strict=False)
    except ValueError:
        return None
    return Decoded(pixels, warning, warning.lower().startswith(_DAMAGE) and not _in_header(content, warning))


def listen(content: bytes) -> tuple[str, bool]:
    """Return what the decoder says about a JPEG, and whether that is damage; ("", False) if it is silent.

    The picture is decoded at an eighth of its size, which reads every coded byte.
    """
    found = frame(content)
    decoded = decode(content, _COLOURS[found.components], 1, 1) if found else None
    return (decoded.warning, decoded.damaged) if decoded else ("", False)


def _in_header(content: bytes, warning: str) -> bool:
    """Return whether the warning is about something before the coded data."""
    try:
        simplejpeg.decode_jpeg_header(content)
    except ValueError as error:
        return " ".join(str(error).split()) == warning
    return False


def _orientation(segment: bytes) -> int:
    exif = Image.Exif()
    with contextlib.suppress(Exception):  # broken metadata raises nearly anything
        exif.load(segment)
        value = exif.get(_ORIENTATION_TAG, 1)
        return value if isinstance(value, int) else 1
    return 1
