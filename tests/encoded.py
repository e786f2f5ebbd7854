"""Image files made for tests: as bytes, broken ones included."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    """Return the image as a file of a format."""
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def png(width: int, height: int, depth: int = 8, rows: bytes = b"") -> bytes:
    """Return an RGB PNG with any header, over whatever rows."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows or b"\0")) + chunk(b"IEND", b"")


def scene(seed: int, width: int = 96, height: int = 72) -> Image.Image:
    """Return a picture with the large shapes and the fine detail of a photo, different for each seed."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (6, 8, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    grain = generator.normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8))
