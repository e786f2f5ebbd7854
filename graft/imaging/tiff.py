"""TIFF with any number of bands, which Pillow does not open: its directories and its samples.

A row of W pixels with N samples of B bytes is byte for byte a grey row of W * N * B pixels. So Pillow, and
libtiff inside it, get the data with a directory that describes it this way: every compression that works on whole bytes
is read without another library.
"""

import io
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

Samples = npt.NDArray[Any]

MAX_PAGES = 4096
_SMALLER, _MASK = 1, 4  # bits of SUBFILE: a page that is a reduced copy of another one, or its mask
_PALETTE, _SEPARATE, _DIFFERENCES = 3, 2, 2
_COMPRESSIONS = {1, 5, 8, 32773, 32946, 34925, 50000}  # none, LZW, deflate, PackBits, deflate, LZMA, Zstandard
_KINDS: Mapping[int, str] = {1: "u", 2: "i", 3: "f", 4: "u"}  # NumPy kind by sample format
_BITS = {"u": (8, 16, 32), "i": (8, 16, 32), "f": (16, 32, 64)}
_LONG = 4  # number of the type uint32


class Tag(IntEnum):
    """Tag numbers of directory entries."""

    SUBFILE = 254
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIPS = 273
    ORIENTATION = 274
    BANDS = 277
    STRIP_ROWS = 278
    STRIP_BYTES = 279
    PLANAR_CONFIGURATION = 284
    PREDICTOR = 317
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILES = 324
    TILE_BYTES = 325
    SAMPLE_FORMAT = 339
    PROFILE = 34675
    GPS = 34853


class UnsupportedError(ValueError):
    """Samples with an unsupported type, compression or photometric interpretation; the message says which."""


@dataclass(frozen=True)
class Page:
    """One picture of a file, as described by its directory."""

    width: int
    height: int
    """As stored: `orientation` is not applied."""
    bands: int
    orientation: int
    """As in EXIF, 1 (upright) to 8."""
    directory: Mapping[int, Any]
    """All entries by tag number."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a sample, in this machine's byte order.

        Raises:
            UnsupportedError: if the type is not supported.
        """
        bits = set(numbers(self.directory, Tag.BITS, (1,)))
        kinds = {_KINDS.get(number, "") for number in numbers(self.directory, Tag.SAMPLE_FORMAT, (1,))}
        kind, size = (kinds.pop(), bits.pop())
        if bits or kinds or size not in _BITS.get(kind, ()):
            raise UnsupportedError(
                "samples that do not have 8, 16 or 32 bits (floats: 16, 32 or 64), or of mixed types"
            )
        return np.dtype(f"{kind}{size // 8}")


def is_tiff(content: bytes) -> bool:
    """Return whether a file is a TIFF that Pillow knows, judged by its first bytes."""
    return content[:4] in (b"II*\0", b"MM\0*", b"II+\0")


def ends_before_directory(content: bytes) -> bool:
    """Return whether a TIFF is shorter than its header says, which names the place of the first directory."""
    order: Literal["little", "big"] = "little" if content[:2] == b"II" else "big"
    at = content[8:16] if b"+" in content[2:4] else content[4:8]
    return int.from_bytes(at, order) + 2 > len(content)


def pages(content: bytes) -> list[Page]:
    """Return the pictures of a file in order, without reduced copies and masks.

    Raises:
        Exception: of nearly any kind, if the file is not a TIFF or is broken.
    """
    directory = TiffImagePlugin.ImageFileDirectory_v2(content[: 16 if content[2:3] == b"+" else 8])
    stream = io.BytesIO(content)
    found: list[Page] = []
    seen = {0}
    while (at := directory.next) not in seen and len(seen) <= MAX_PAGES:
        seen.add(at)
        stream.seek(at)
        directory.load(stream)
        entries = dict(directory)
        if not int(entries.get(Tag.SUBFILE, 0)) & (_SMALLER | _MASK):
            width, height = int(entries[Tag.WIDTH]), int(entries[Tag.HEIGHT])
            bands, orientation = int(entries.get(Tag.BANDS, 1)), int(entries.get(Tag.ORIENTATION, 1))
            found.append(Page(width, height, bands, orientation, entries))
    if not found:
        raise ValueError("no picture in it")
    return found


def read(content: bytes, page: Page) -> Samples:
    """Return the samples of one picture, (height, width, bands), as stored.

    Raises:
        UnsupportedError: for samples with an unsupported type, compression or photometric interpretation.
        Exception: of nearly any kind, if the file is broken.
    """
    entries, dtype = page.directory, page.dtype
    compression, predictor = int(entries.get(Tag.COMPRESSION, 1)), int(entries.get(Tag.PREDICTOR, 1))
    if compression not in _COMPRESSIONS or predictor > _DIFFERENCES or int(entries.get(Tag.FILL_ORDER, 1)) != 1:
        raise UnsupportedError("this compression is not supported for bands; save it with LZW or deflate")
    if int(entries.get(Tag.PHOTOMETRIC, 1)) == _PALETTE:
        raise UnsupportedError("palette colours, but bands are expected")
    separate = int(entries.get(Tag.PLANAR_CONFIGURATION, 1)) == _SEPARATE
    tiled = Tag.TILES in entries
    starts = numbers(entries, Tag.TILES if tiled else Tag.STRIPS)
    sizes = numbers(entries, Tag.TILE_BYTES if tiled else Tag.STRIP_BYTES)
    parts, beside = (page.bands, 1) if separate else (1, page.bands)
    each = len(starts) // parts
    own = [slice(each * part, each * (part + 1)) for part in range(parts)]
    stored = dtype.newbyteorder("<" if content[:2] == b"II" else ">")
    planes = [_bytes(content, page, beside * dtype.itemsize, starts[part], sizes[part]).view(stored) for part in own]
    samples = np.concatenate([plane.reshape(page.height, page.width, beside) for plane in planes], axis=2, dtype=dtype)
    if predictor == _DIFFERENCES:
        # The file stores the difference of each sample to its left neighbour in the same band, restarting at each tile.
        step = int(entries[Tag.TILE_WIDTH]) if tiled else page.width
        for left in range(0, page.width, step):
            part = samples[:, left : left + step]
            np.cumsum(part, axis=1, dtype=dtype, out=part)
    return samples


def numbers(entries: Mapping[int, Any], number: int, default: Sequence[int] = ()) -> list[int]:
    """Return the integers of a directory entry, one or several."""
    found = entries.get(number, default)
    return [int(value) for value in found] if isinstance(found, tuple | list) else [int(found)]


def _bytes(
    content: bytes, page: Page, per_pixel: int, starts: Sequence[int], sizes: Sequence[int]
) -> npt.NDArray[np.uint8]:
    """Return the bytes (height, width * per_pixel) of the strips or tiles at these offsets."""
    entries = page.directory
    new: dict[int, Sequence[int]] = {
        Tag.WIDTH: [page.width * per_pixel],
        Tag.HEIGHT: [page.height],
        Tag.BITS: [8],
        Tag.COMPRESSION: [int(entries.get(Tag.COMPRESSION, 1))],
        Tag.PHOTOMETRIC: [1],
        Tag.BANDS: [1],
    }
    if Tag.TILES in entries:
        new[Tag.TILE_WIDTH] = [int(entries[Tag.TILE_WIDTH]) * per_pixel]
        new[Tag.TILE_HEIGHT] = [int(entries[Tag.TILE_HEIGHT])]
        new[Tag.TILES], new[Tag.TILE_BYTES] = starts, sizes
    else:
        new[Tag.STRIP_ROWS] = [min(int(entries.get(Tag.STRIP_ROWS, page.height)), page.height)]
        new[Tag.STRIPS], new[Tag.STRIP_BYTES] = starts, sizes
    with Image.open(io.BytesIO(_with_directory(content, new)), formats=["TIFF"]) as image:
        return np.array(image)


def _with_directory(content: bytes, entries: Mapping[int, Sequence[int]]) -> bytes:
    """Return the file with another directory, which has these integer entries, appended at its end."""
    order = "<" if content[:2] == b"II" else ">"
    at = len(content) + len(content) % 2
    end = at + 2 + 12 * len(entries) + 4
    table, behind = struct.pack(f"{order}H", len(entries)), b""
    for number, values in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}L", *values)
        if len(values) > 1:
            packed, behind = struct.pack(f"{order}L", end + len(behind)), behind + packed
        table += struct.pack(f"{order}HHL", number, _LONG, len(values)) + packed
    header = content[:2] + struct.pack(f"{order}HL", 42, at)
    return b"".join([header, content[8:], bytes(at - len(content)), table, struct.pack(f"{order}L", 0), behind])
