"""Damage in the strips and tiles of a TIFF, which libtiff reads past or reports to the terminal alone."""

import zlib
from collections.abc import Callable, Mapping, Sequence

from graft.imaging import jpeg, tiff
from graft.imaging.inflate import inflated_size

_FAX, _JPEG, _PACKBITS, _DEFLATE = 4, 7, 32773, (8, 32946)
_JPEG_TABLES = 347
_NO_CODE = bytes(4)
"""No code words of a fax (group 4) have so many zeros in a row; behind the last one they are padding."""


def find_tiff_damage(content: bytes) -> str:
    """Return what is wrong with the first picture of a TIFF that was decoded; empty if nothing is known."""
    try:
        page = tiff.pages(content)[0]
    except Exception:  # what the parser for bands cannot read was read by Pillow
        return ""
    entries = page.directory
    tiled = tiff.Tag.TILES in entries
    starts = tiff.numbers(entries, tiff.Tag.TILES if tiled else tiff.Tag.STRIPS)
    sizes = tiff.numbers(entries, tiff.Tag.TILE_BYTES if tiled else tiff.Tag.STRIP_BYTES)
    if not starts or len(sizes) != len(starts):
        return ""
    missing = sum(start == 0 or size == 0 for start, size in zip(starts, sizes, strict=True))
    if missing:
        return f"{missing} of {len(starts)} of its {'tiles' if tiled else 'strips'} are missing"
    if any(start + size > len(content) for start, size in zip(starts, sizes, strict=True)):
        return "the file is cut short (a strip leads beyond its end)"
    check = _CHECKS.get(int(entries.get(tiff.Tag.COMPRESSION, 1)))
    parts = [content[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    return check(parts, page) if check else ""


def _deflated(parts: Sequence[bytes], page: tiff.Page) -> str:
    del page
    for part in parts:
        try:
            inflated_size(zlib.decompressobj(), part)
        except zlib.error as error:
            return f"the compressed data is broken ({error})"
    return ""


def _coded_as_jpeg(parts: Sequence[bytes], page: tiff.Page) -> str:
    """Listen to each part, to which the tables that all parts share are added."""
    tables = bytes(page.directory.get(_JPEG_TABLES, b""))
    for part in parts:
        warning, damaged = jpeg.listen(tables[:-2] + part[2:] if tables else part)
        if damaged:
            return f"the decoder says: {warning}"
    return ""


def _packed(parts: Sequence[bytes], page: tiff.Page) -> str:
    """Count the bytes that runs and literals stand for, which must fill the rows of each strip."""
    entries = page.directory
    if tiff.Tag.TILES in entries:
        return ""
    bits = sum(tiff.numbers(entries, tiff.Tag.BITS, (1,)))
    planes = page.bands if int(entries.get(tiff.Tag.PLANAR_CONFIGURATION, 1)) != 1 else 1
    row = (page.width * bits // planes + 7) // 8
    rows = min(int(entries.get(tiff.Tag.STRIP_ROWS, page.height)), page.height)
    strips = -(-page.height // rows)
    for number, part in enumerate(parts):
        whole = row * min(rows, page.height - number % strips * rows)
        if _unpacked_size(part) != whole:
            return "the compressed data does not fill its rows"
    return ""


def _unpacked_size(part: bytes) -> int:
    size = at = 0
    while at < len(part):
        count = part[at]
        if count < 128:  # literals
            size += min(count + 1, len(part) - at - 1)
            at += count + 2
        else:
            size += 257 - count if count > 128 and at + 1 < len(part) else 0
            at += 2 if count > 128 else 1
    return size


def _faxed(parts: Sequence[bytes], page: tiff.Page) -> str:
    del page
    return "the compressed data has a hole of zeros" if any(_NO_CODE in part.rstrip(b"\0") for part in parts) else ""


_CHECKS: Mapping[int, Callable[[Sequence[bytes], tiff.Page], str]] = {
    **dict.fromkeys(_DEFLATE, _deflated),
    _JPEG: _coded_as_jpeg,
    _PACKBITS: _packed,
    _FAX: _faxed,
}
