"""Image files for tests, as bytes, including broken ones."""

import io
import struct
import zlib
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    """Return the image encoded in a format."""
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def png(width: int, height: int, depth: int = 8, rows: bytes = b"") -> bytes:
    """Return an RGB PNG with any size and depth in its header, whatever its rows contain."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows or b"\0")) + chunk(b"IEND", b"")


def scene(seed: int, width: int = 96, height: int = 72) -> Image.Image:
    """Return a picture with large shapes and fine detail like a photo, different for each seed."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (6, 8, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    grain = generator.normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8))


def paged(samples: np.ndarray) -> bytes:
    """Return samples (H, W, N) as a TIFF of N pages with one band each."""
    first, *others = [Image.fromarray(np.ascontiguousarray(samples[:, :, band])) for band in range(samples.shape[2])]
    return encoded(first, "TIFF", save_all=True, append_images=others)


def banded(
    samples: np.ndarray,
    *,
    separate: bool = False,
    differences: bool = False,
    tile: tuple[int, int] | None = None,
    compression: int = 1,
    squeeze: Callable[[bytes], bytes] = bytes,
    more: Mapping[int, int] | None = None,
) -> bytes:
    """Return samples (H, W, N) as a TIFF of N bands, in the byte order of their dtype.

    Args:
        samples: integers or floats.
        separate: store one band after the other (planar), instead of all bands of a pixel together.
        differences: store the difference of each sample to its left neighbour (predictor 2).
        tile: height and width of tiles, instead of strips of 7 rows.
        compression: TIFF number of the compression that `squeeze` applies.
        squeeze: compresses the bytes of a strip or tile.
        more: additional directory entries.
    """
    order = ">" if samples.dtype.byteorder == ">" else "<"
    height, width, bands = samples.shape
    rows, columns = tile or (7, width)
    parts = []
    for plane in np.split(samples, bands, axis=2) if separate else [samples]:
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                part = plane[top : top + rows, left : left + columns]
                if tile:
                    missing = ((0, rows - part.shape[0]), (0, columns - part.shape[1]), (0, 0))
                    part = np.pad(part, missing)
                if differences:
                    part = np.concatenate([part[:, :1], np.diff(part, axis=1)], axis=1)
                parts.append(squeeze(part.astype(samples.dtype).tobytes()))
    starts = [8 + sum(map(len, parts[:number])) for number in range(len(parts))]
    places = {324: starts, 325: [len(part) for part in parts]} if tile else {273: starts, 279: [*map(len, parts)]}
    entries: dict[int, list[int]] = {
        256: [width],
        257: [height],
        258: [8 * samples.itemsize] * bands,
        259: [compression],
        262: [1],
        277: [bands],
        284: [2 if separate else 1],
        317: [2 if differences else 1],
        339: [{"u": 1, "i": 2, "f": 3}[samples.dtype.kind]] * bands,
        **({322: [columns], 323: [rows]} if tile else {278: [rows]}),
        **places,
        **{number: [value] for number, value in (more or {}).items()},
    }
    at = 8 + sum(map(len, parts))
    behind, table = b"", struct.pack(f"{order}H", len(entries))
    for number, values in sorted(entries.items()):
        content = struct.pack(f"{order}{len(values)}L", *values)
        if len(values) > 1:
            place = at + 2 + 12 * len(entries) + 4 + len(behind)
            content, behind = struct.pack(f"{order}L", place), behind + content
        table += struct.pack(f"{order}HHL", number, 4, len(values)) + content
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}L", at)
    return b"".join([start, *parts, table, bytes(4), behind])
