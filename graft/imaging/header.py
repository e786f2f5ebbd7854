"""What an image's header says: format, size and metadata."""

import functools
import io
from dataclasses import dataclass, replace

from PIL import ExifTags, Image, ImageCms

from graft.imaging.decode import MAX_PIXELS, open_image
from graft.imaging.exif import exif_of, is_personal, orientation, orientation_of


@dataclass(frozen=True, slots=True)
class Facts:
    """The contents of a header; width and height are those of the upright picture."""

    format: str
    mode: str
    """Pillow's mode, with `;16` appended where the file holds 16 bits per channel."""
    width: int
    height: int
    frames: int
    orientation: int
    """EXIF orientation, 1 (upright) to 8."""
    alpha: bool
    """Has an alpha channel or a transparent colour, used or not."""
    gps: bool
    personal: bool
    """Names an artist, author, owner, copyright or the serial number of a camera or lens."""
    quantisation: float
    """Mean of a JPEG's luminance quantisation table: the coarser, the larger; 0 for other formats."""
    profile: str
    """Name of an embedded colour profile, empty if there is none."""


def facts(content: bytes, max_pixels: int = MAX_PIXELS) -> Facts:
    """Return the contents of the header without decoding pixels.

    Raises:
        ImageError: like `decode`, except for faults that only the pixels show.
    """
    return facts_of(open_image(content, max_pixels), content)


def facts_of(image: Image.Image, content: bytes) -> Facts:
    """Return the facts of an image that was opened from `content` and is not loaded yet."""
    exif = exif_of(image)
    turned = orientation_of(image)
    width, height = image.size
    # Pillow rotates TIFF itself and reports the resulting size.
    if turned >= 5 and image.format != "TIFF":
        width, height = height, width
    return Facts(
        format=str(image.format),
        mode=image.mode + (";16" if image.mode[0] not in "IF" and _is_16_bit(image) else ""),
        width=width,
        height=height,
        frames=_frames(image, content),
        orientation=turned,
        alpha=image.has_transparency_data,
        gps=ExifTags.IFD.GPSInfo in exif,
        personal=is_personal(exif),
        quantisation=_quantisation(image),
        profile=profile_name(image.info["icc_profile"]) if image.info.get("icc_profile") else "",
    )


def completed(facts: Facts, image: Image.Image) -> Facts:
    """Return the facts, completed from a loaded image: the EXIF of a PNG may follow its pixels."""
    if image.format != "PNG":
        return facts
    exif = exif_of(image)
    turned = orientation(exif)
    width, height = image.size if turned < 5 else image.size[::-1]
    gps, personal = ExifTags.IFD.GPSInfo in exif, is_personal(exif)
    return replace(facts, orientation=turned, width=width, height=height, gps=gps, personal=personal)


def _frames(image: Image.Image, content: bytes) -> int:
    try:
        if image.format in ("GIF", "TIFF"):
            # Pillow counts their frames by seeking, which would disturb the image that is being read.
            with Image.open(io.BytesIO(content), formats=[image.format]) as other:
                return int(getattr(other, "n_frames", 1))
        return int(getattr(image, "n_frames", 1))
    except Exception:  # later frames may be broken; only the first is used
        return 1


@functools.lru_cache(maxsize=256)
def profile_name(icc: bytes) -> str:
    """Return the name of a colour profile."""
    try:
        return (ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.profile_description or "unnamed").strip("\0 \n")
    except Exception:  # a broken profile changes nothing: colours are read without it
        return "unreadable"


def _quantisation(image: Image.Image) -> float:
    tables: dict[int, list[int]] = getattr(image, "quantization", None) or {}
    return sum(tables[0]) / len(tables[0]) if tables.get(0) else 0.0


def _is_16_bit(image: Image.Image) -> bool:
    """Return whether the file has 16 bits per channel; Pillow reads such colours as 8-bit, only the tile shows it."""
    tiles = getattr(image, "tile", [])
    return any(";16" in str(argument) for tile in tiles for argument in _arguments(tile))


def _arguments(tile: tuple[object, ...]) -> tuple[object, ...]:
    arguments = tile[3] if len(tile) > 3 else ()
    return arguments if isinstance(arguments, tuple) else (arguments,)
