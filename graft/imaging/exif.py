"""EXIF metadata: the orientation of a picture, and whether it contains personal data."""

from PIL import ExifTags, Image

TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Pillow's operation by EXIF orientation; 1 is upright."""
PERSONAL_TAGS = (0x013B, 0x8298, 0x9C9D)  # artist, copyright, author
_PERSONAL_CAMERA_TAGS = (0xA430, 0xA431, 0xA435)  # owner, serial numbers of camera and lens; in EXIF's second directory


def exif_of(image: Image.Image) -> Image.Exif:
    """Return the EXIF metadata of an image without decoding pixels; empty if it is missing or broken."""
    # If a PNG's header has no EXIF, `getexif` would decode the pixels, before the caller wants that.
    if image.format == "PNG" and "exif" not in image.info:
        return Image.Exif()
    try:
        return image.getexif()
    except Exception:  # broken EXIF is no reason to reject the picture
        return Image.Exif()


def orientation_of(image: Image.Image) -> int:
    """Return the orientation of an opened image, 1 (upright) to 8."""
    # The decoder of JPEG XL has turned the picture, unless it only unpacked a JPEG; its EXIF does not count.
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return 1
    return orientation(exif_of(image))


def orientation(exif: Image.Exif) -> int:
    """Return the orientation in the metadata, 1 (upright) to 8."""
    value = exif.get(ExifTags.Base.Orientation, 1)
    return value if value in TRANSPOSE else 1


def is_personal(exif: Image.Exif) -> bool:
    """Return whether it names an artist, author, owner, copyright or the serial number of a camera or lens."""
    if any(tag in exif for tag in PERSONAL_TAGS):
        return True
    try:
        camera = exif.get_ifd(ExifTags.IFD.Exif)
    except Exception:  # see exif_of
        return False
    return any(tag in camera for tag in _PERSONAL_CAMERA_TAGS)
