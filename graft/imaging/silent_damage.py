"""Damage that the decoders of PNG, GIF, BMP, TIFF, WebP, AVIF, HEIC and JPEG XL pass over in silence.

They fill what is missing with black, or make a picture of what is broken. What a format records about itself is
checked here: the checksums of PNG, the number of rows in PNG and GIF, the strips of TIFF, the codes of BMP, and, in
compressed data of any format, holes of zeros, as an interrupted copy leaves them. BMP, GIF, WebP and uncompressed TIFF
have no checksums: other values in the middle of their pixels cannot be told from a picture.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping

from graft.imaging.inflate import inflated_size
from graft.imaging.tiff_damage import find_tiff_damage

HOLE_BYTES = 1024
"""Compressed data has no longer run of zeros, see the tests with blank pictures."""
_PNG_HEAD = 8
_RLE = (1, 2)


def find_damage(image_format: str, content: bytes, blank_end: bool) -> str:
    """Return what is wrong with a file that was decoded; empty if nothing is.

    Args:
        image_format: Pillow's name.
        content: the file.
        blank_end: whether the last row is all zero: a row that is not in the file is.
    """
    check = _CHECKS.get(image_format)
    found = check(content, blank_end) if check else ""
    if not found and image_format in _COMPRESSED and bytes(HOLE_BYTES) in content:
        return f"the compressed data has a hole of at least {HOLE_BYTES:,} zeros"
    return found


def _png(content: bytes, blank_end: bool) -> str:
    for kind, start, end in _chunks(content):
        # A letter in upper case: the picture cannot be read without it.
        if kind[:1].isupper() and zlib.crc32(content[start - 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            return f"the checksum of its part {kind.decode('latin-1')} is wrong"
    if blank_end and _lacks_rows(content):
        return "the file is cut short (the compressed data ends before the last row)"
    return ""


def _chunks(png: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each part of a PNG, and where its data starts and ends."""
    at = _PNG_HEAD
    while at + 12 <= len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4], "big")
        if end + 4 > len(png):
            return
        yield png[at + 4 : at + 8], at + 8, end
        at = end + 4


def _lacks_rows(png: bytes) -> bool:
    """Return whether the pixels of a PNG inflate to less than its header says."""
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    bits = png[24] * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(png[25], 1)
    inflate, size = zlib.decompressobj(), 0
    for kind, start, end in _chunks(png):
        if kind == b"IDAT":
            size += inflated_size(inflate, png[start:end])
    passes = _PASSES if png[28] else ((0, 0, 1, 1),)
    whole = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            whole += rows * (1 + (columns * bits + 7) // 8)
    return size < whole


_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Adam7: first column and row, and the steps to the next ones."""


def _gif(content: bytes, blank_end: bool) -> str:
    if not blank_end:  # counting codes is slow
        return ""
    try:
        whole, found = _gif_pixels(content)
    except IndexError:
        return ""
    return "" if found >= whole else "the file is cut short (the compressed data ends before the last row)"


def _gif_pixels(gif: bytes) -> tuple[int, int]:
    """Return how many pixels the first frame of a GIF has, and how many its LZW codes make."""
    at = 13 + (3 << (gif[10] & 7) + 1 if gif[10] & 0x80 else 0)
    while gif[at] == 0x21:  # extensions
        at += 2
        while gif[at]:
            at += 1 + gif[at]
        at += 1
    if gif[at] != 0x2C:
        return 0, 0
    whole = int.from_bytes(gif[at + 5 : at + 7], "little") * int.from_bytes(gif[at + 7 : at + 9], "little")
    packed = gif[at + 9]
    at += 10 + (3 << (packed & 7) + 1 if packed & 0x80 else 0)
    least, at = gif[at], at + 1
    data = bytearray()
    while gif[at]:
        data += gif[at + 1 : at + 1 + gif[at]]
        at += 1 + gif[at]
    return whole, _lzw_length(bytes(data), least, whole)


def _lzw_length(data: bytes, least: int, enough: int) -> int:
    """Return how many pixels LZW codes stand for; only the length of each code's text is kept."""
    clear, end = 1 << least, (1 << least) + 1
    lengths, width, before, total = [1] * (end + 1), least + 1, 0, 0
    bits = held = at = 0
    while total < enough:
        while held < width:
            if at == len(data):
                return total
            bits |= data[at] << held
            held, at = held + 8, at + 1
        code, bits, held = bits & ((1 << width) - 1), bits >> width, held - width
        if code == clear:
            del lengths[end + 1 :]
            width, before = least + 1, 0
            continue
        if code == end or code > len(lengths) or (code == len(lengths) and not before):
            return total
        if before and len(lengths) < 4096:
            lengths.append(before + 1)
            if len(lengths) == 1 << width and width < 12:
                width += 1
        before = lengths[code] if code < len(lengths) else before
        total += before
    return total


def _bmp(content: bytes, blank_end: bool) -> str:
    """Check a run-length code, which may stop anywhere; uncompressed rows are counted by Pillow."""
    header = int.from_bytes(content[14:18], "little")
    if not blank_end or header < 40 or content[30] not in _RLE:
        return ""
    height = abs(int.from_bytes(content[22:26], "little", signed=True))
    at, rows = int.from_bytes(content[10:14], "little"), 0
    while at + 1 < len(content):
        count, value = content[at], content[at + 1]
        at += 2
        if count:
            continue
        if value == 0:
            rows += 1
        elif value == 1:
            return ""  # the file says itself that the rest is blank
        elif value == 2:
            rows += content[at + 1] if at + 1 < len(content) else 0
            at += 2
        else:
            size = value if content[30] == 1 else (value + 1) // 2
            at += size + size % 2
    return "" if rows >= height - 1 and at <= len(content) else "the file is cut short (its code has no end)"


def _tiff(content: bytes, blank_end: bool) -> str:
    del blank_end
    return find_tiff_damage(content)


_CHECKS: Mapping[str, Callable[[bytes, bool], str]] = {"PNG": _png, "GIF": _gif, "BMP": _bmp, "TIFF": _tiff}
_COMPRESSED = ("WEBP", "GIF", "AVIF", "HEIF", "JXL")
