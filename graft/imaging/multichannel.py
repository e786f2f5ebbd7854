"""Decoding images with any number of channels to 8-bit pixels.

Any picture can be converted to 3 channels (RGB) or 1 (grey). Any other number has to be that of the file, whose bands
are read as stored: RGBA, CMYK, TIFF with that many bands, or TIFF with that many pages of one band each.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from graft.imaging import exif, header, tiff
from graft.imaging.decode import (
    MAX_PIXELS,
    ImageError,
    Pixels,
    broken,
    check_size,
    load,
    narrowed,
    open_image,
    upright_rgb,
    wrong_channels,
)
from graft.imaging.decode import decode as decode_rgb
from graft.imaging.header import Facts
from graft.imaging.value_range import ValueRange

CONVERTIBLE = (1, 3)
"""Numbers of channels to which any picture can be converted; others have to be those of the file."""

_MOST_SAMPLES = 4
"""Allowed samples per pixel at `max_pixels`; a picture with fewer pixels may have more bands."""
_WHITE_IS_ZERO = 0
# EXIF orientation -> (swap rows and columns first, then flip these axes).
_TURNS: dict[int, tuple[bool, tuple[int, ...]]] = {
    2: (False, (1,)),
    3: (False, (0, 1)),
    4: (False, (0,)),
    5: (True, ()),
    6: (True, (1,)),
    7: (True, (0, 1)),
    8: (True, (0,)),
}


def decode(content: bytes, channels: int, max_pixels: int = MAX_PIXELS, values: ValueRange | None = None) -> Pixels:
    """Return the picture of a file as uint8 (height, width, channels), upright.

    Wider samples are scaled from the range `values`, all bands of a picture alike.

    Raises:
        ImageError: like `decode.decode`, and if the file has another number of channels and cannot be converted.
    """
    if channels == 3:
        return decode_rgb(content, max_pixels, values)
    if channels not in CONVERTIBLE and tiff.is_tiff(content):
        return _from_tiff(content, channels, max_pixels, values)
    return from_picture(load(open_image(content, max_pixels), content), channels, values)


def from_picture(image: Image.Image, channels: int, values: ValueRange | None = None) -> Pixels:
    """Return a loaded Pillow image as uint8 (height, width, channels), upright.

    Raises:
        ImageError: if it has another number of channels and cannot be converted.
    """
    # Pillow rotates TIFF itself.
    return _upright(_as_stored(image, channels, values), 1 if image.format == "TIFF" else exif.orientation_of(image))


def _as_stored(image: Image.Image, channels: int, values: ValueRange | None) -> Pixels:
    if channels in CONVERTIBLE:
        rgb = upright_rgb(image, 1, values)
        return np.asarray(rgb if channels == 3 else rgb.convert("L")).reshape(*rgb.size[::-1], channels)
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
    elif image.mode == "P":
        image = image.convert("RGB")
    found = len(image.getbands())
    if found != channels:
        raise wrong_channels(found, channels)
    return np.asarray(image)


def facts(content: bytes, channels: int, max_pixels: int = MAX_PIXELS) -> Facts:
    """Return the contents of the header of a file that `decode` can read.

    Raises:
        ImageError: like `decode`, except for faults that only the pixels show.
    """
    if channels in CONVERTIBLE or not tiff.is_tiff(content):
        return header.facts(content, max_pixels)
    first = _pages(content, channels)[0]
    swapped = first.orientation >= 5
    profile = first.directory.get(tiff.Tag.PROFILE)
    return Facts(
        format="TIFF",
        mode=f"{channels} x {first.dtype}",
        width=first.height if swapped else first.width,
        height=first.width if swapped else first.height,
        frames=1,
        orientation=first.orientation,
        alpha=False,
        gps=tiff.Tag.GPS in first.directory,
        personal=any(tag in first.directory for tag in exif.PERSONAL_TAGS),
        quantisation=0.0,
        profile=header.profile_name(profile) if isinstance(profile, bytes) else "",
    )


def preview(
    content: bytes, channels: int, max_pixels: int = MAX_PIXELS, values: ValueRange | None = None
) -> Image.Image:
    """Return a picture for display, upright RGB; of an image with other channels, the first three.

    Raises:
        ImageError: like `decode`.
    """
    if channels in CONVERTIBLE:
        return upright_rgb(load(open_image(content, max_pixels), content), values=values)
    return Image.fromarray(as_rgb(decode(content, channels, max_pixels, values)))


def as_rgb(pixels: Pixels) -> Pixels:
    """Return the first three channels of pixels, uint8 (height, width, 3); if there are fewer, repeat the last."""
    last = pixels.shape[2] - 1
    return np.ascontiguousarray(pixels[:, :, [0, min(1, last), min(2, last)]])


def wide_samples(content: bytes, channels: int, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.generic] | None:
    """Return the samples (height, width, channels) of a TIFF of bands, as stored; None if they have 8 bits.

    Raises:
        ImageError: like `decode`.
    """
    if channels in CONVERTIBLE or not tiff.is_tiff(content):
        return None
    samples = _samples(content, _pages(content, channels), channels, max_pixels)
    return None if samples.dtype == np.uint8 else samples


def _from_tiff(content: bytes, channels: int, max_pixels: int, values: ValueRange | None) -> Pixels:
    pages = _pages(content, channels)
    first = pages[0]
    samples = _samples(content, pages, channels, max_pixels)
    pixels: Pixels = samples if samples.dtype == np.uint8 else narrowed(samples, values)
    if first.directory.get(tiff.Tag.PHOTOMETRIC) == _WHITE_IS_ZERO:
        pixels = 255 - pixels
    return _upright(pixels, first.orientation)


def _samples(content: bytes, pages: Sequence[tiff.Page], channels: int, max_pixels: int) -> tiff.Samples:
    first = pages[0]
    check_size(first.width, first.height, max_pixels)
    check_size(first.width * channels, first.height, _MOST_SAMPLES * max_pixels)
    try:
        return np.concatenate([tiff.read(content, page) for page in pages], axis=2)
    except tiff.UnsupportedError as error:
        raise ImageError("unsupported", str(error)) from error
    except Exception as error:  # a parser may raise nearly anything on malicious bytes
        raise broken(error, "pixels", content) from error


def _pages(content: bytes, channels: int) -> list[tiff.Page]:
    """Return the pages with the channels: the first one, or all if each has one band."""
    try:
        pages = tiff.pages(content)
        single = pages[0].bands == 1
        kept = pages if single else pages[:1]
        types = {(page.width, page.height, page.bands, page.dtype) for page in kept}
    except tiff.UnsupportedError as error:
        raise ImageError("unsupported", str(error)) from error
    except Exception as error:  # see _samples
        raise broken(error, "header", content) from error
    found = len(kept) if single else kept[0].bands
    if found != channels:
        raise wrong_channels(found, channels)
    if len(types) > 1:
        raise ImageError("undecodable", "pages of different sizes or types, where each is one channel")
    return kept


def _upright(pixels: npt.NDArray[np.uint8], orientation: int) -> Pixels:
    swap, axes = _TURNS.get(orientation, (False, ()))
    return np.flip(pixels.swapaxes(0, 1) if swap else pixels, axes) if swap or axes else pixels
