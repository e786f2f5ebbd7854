"""Thumbnails for pages about data: decoded and re-encoded, so that no byte of the original file is passed on."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from graft.core.cpu import available_cores
from graft.core.errors import DataError
from graft.data.safe_paths import read_bytes
from graft.imaging import multichannel
from graft.imaging.decode import MAX_PIXELS, load, open_image, upright_rgb
from graft.imaging.value_range import ValueRange

QUALITY = 72


def thumbnails(
    rows: Iterable[int],
    files: Sequence[str],
    side: int,
    square: bool = False,
    max_pixels: int = MAX_PIXELS,
    channels: int = 3,
    values: ValueRange | None = None,
) -> Mapping[int, str]:
    """Return thumbnails by row as data URIs; rows whose file cannot be read (any more) are left out.

    Args:
        rows: rows to show.
        files: path of each row's file.
        side: longest side in pixels.
        square: crop the centre square instead of showing the whole picture.
        max_pixels: larger pictures are not decoded.
        channels: number of channels; of images that are neither RGB nor grey the first three channels are shown.
        values: what is black and white in wide images.
    """
    wanted = sorted(set(rows))

    def one(row: int) -> str | None:
        try:
            return thumbnail(read_bytes(files[row], resolved=True), side, square, max_pixels, channels, values)
        except DataError:
            return None

    with ThreadPoolExecutor(available_cores()) as pool:
        made = pool.map(one, wanted)
        return {row: uri for row, uri in zip(wanted, made, strict=True) if uri is not None}


def thumbnail(
    content: bytes,
    side: int,
    square: bool = False,
    max_pixels: int = MAX_PIXELS,
    channels: int = 3,
    values: ValueRange | None = None,
) -> str:
    """Return a small JPEG of a picture as a data URI.

    Raises:
        ImageError: if it cannot be decoded.
    """
    if channels in multichannel.CONVERTIBLE:
        image = open_image(content, max_pixels)
        # Decode a large JPEG at reduced scale, at least twice the thumbnail's short side.
        image.draft(None, (4 * side, 4 * side))
        rgb = upright_rgb(load(image), values=values)
    else:
        rgb = multichannel.preview(content, channels, max_pixels, values)
    box = _middle(rgb.size) if square else (0.0, 0.0, float(rgb.width), float(rgb.height))
    width, height = box[2] - box[0], box[3] - box[1]
    scale = side / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # Enlarge without smoothing: digits of 28 pixels must not look blurred.
    method = Image.Resampling.BICUBIC if scale < 1 else Image.Resampling.NEAREST
    stream = io.BytesIO()
    rgb.resize(size, method, box, reducing_gap=2.0).save(stream, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def thumbnail_of_file(
    file: Path, side: int, channels: int, values: ValueRange | None, square: bool = False
) -> str | None:
    """Return the thumbnail of a file, see `thumbnail`; None if it cannot be read."""
    try:
        return thumbnail(read_bytes(file), side, square, channels=channels, values=values)
    except DataError:
        return None


def _middle(size: tuple[int, int]) -> tuple[float, float, float, float]:
    edge = min(size)
    left, top = (size[0] - edge) / 2, (size[1] - edge) / 2
    return left, top, left + edge, top + edge
