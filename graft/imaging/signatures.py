"""What a file is, by its first bytes: the one rule for training, prediction and serving.

A file is an image if its content begins like one. If its name says that it is one and its content does not, it is a
broken image; otherwise it is none.
"""

from collections.abc import Callable
from pathlib import PurePath

HEAD_BYTES = 512
"""The rule looks at no more of a file than this."""
EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    # Some phones write this as .jpg; Pillow detects it through JPEG.
    "MPO": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "HEIF": (".heic", ".heif", ".hif"),
    "AVIF": (".avif",),
    "JXL": (".jxl",),
}
"""Usual extensions of each format that is read; the last three need a decoder that may be missing."""
_OTHER_EXTENSIONS = frozenset(
    {
        *(".jp2", ".j2k", ".ico", ".svg", ".psd", ".ppm", ".pgm", ".pbm", ".pnm", ".dcm", ".tga", ".pcx"),
        *(".raw", ".dng", ".nef", ".cr2", ".cr3", ".arw", ".exr", ".hdr"),
    }
)
IMAGE_EXTENSIONS = frozenset(one for known in EXTENSIONS.values() for one in known) | _OTHER_EXTENSIONS
"""Extensions by which a name says that the file is an image."""
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")


def _brands(head: bytes) -> tuple[bytes, ...]:
    """Return the brands of a file in ISO's container, the main one first: HEIC and AVIF, but also videos."""
    if head[4:8] != b"ftyp":
        return ()
    box = head[8 : max(16, int.from_bytes(head[:4], "big"))]
    return (box[:4], *(box[at : at + 4] for at in range(8, len(box), 4)))


def _is_avif(head: bytes) -> bool:
    brands = _brands(head)
    return bool(brands) and (
        brands[0] in _AVIF_BRANDS or (brands[0] == b"mif1" and any(b in brands for b in _AVIF_BRANDS))
    )


_IMAGES: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("JPEG", lambda head: head[:3] == b"\xff\xd8\xff"),
    ("PNG", lambda head: head[:8] == b"\x89PNG\r\n\x1a\n"),
    ("WEBP", lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP"),
    ("GIF", lambda head: head[:6] in (b"GIF87a", b"GIF89a")),
    ("TIFF", lambda head: head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    ("BMP", lambda head: head[:2] == b"BM" and head[6:10] == b"\0\0\0\0"),
    ("AVIF", _is_avif),
    ("HEIF", lambda head: any(brand in _HEIF_BRANDS for brand in _brands(head)[:1])),
    ("JPEG XL", lambda head: head[:2] == b"\xff\x0a" or head[4:12] == b"JXL \r\n\x87\n"),
    ("JPEG 2000", lambda head: head[:4] == b"\xff\x4f\xff\x51" or head[4:8] == b"jP  "),
    ("Photoshop", lambda head: head[:4] == b"8BPS"),
    ("icon", lambda head: head[:4] in (b"\0\0\1\0", b"\0\0\2\0") and head[4:6] != b"\0\0"),
    ("PNM", lambda head: head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace()),
    ("DICOM", lambda head: head[128:132] == b"DICM"),
)
# Named in messages, but no images.
_OTHERS: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("PDF", lambda head: head[:5] == b"%PDF-"),
    ("SVG", lambda head: b"<svg" in head.lower()),
    ("NumPy", lambda head: head[:6] == b"\x93NUMPY"),
    ("Git LFS pointer", lambda head: head[:35] == b"version https://git-lfs.github.com/"),
    ("web page", lambda head: head.lstrip()[:14].lower() == b"<!doctype html" or b"<html" in head[:256].lower()),
    ("gzip", lambda head: head[:3] == b"\x1f\x8b\x08"),
    ("ZIP", lambda head: head[:4] == b"PK\3\4"),
    ("video", lambda head: bool(_brands(head)) or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")),
)


def image_format(head: bytes) -> str:
    """Return the format of the image that begins with these bytes, or "" if no image begins so."""
    return next((name for name, matches in _IMAGES if matches(head)), "")


def known_format(head: bytes) -> str:
    """Return the format of a file that begins with these bytes, image or not; "" if it is unknown."""
    return image_format(head) or next((name for name, matches in _OTHERS if matches(head)), "")


def is_named_image(name: str) -> bool:
    """Return whether a file's name says that it is an image."""
    return PurePath(name).suffix.lower() in IMAGE_EXTENSIONS


def is_image(name: str, head: bytes) -> bool:
    """Return whether a file is meant as an image, readable or not, by its content or else by its name."""
    return is_named_image(name) or bool(image_format(head))
