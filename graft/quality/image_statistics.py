"""One pass over an image's bytes: content hash, header facts, full decode, statistics and a signature for duplicates.

Large JPEG images are decoded at a reduced scale: every coded byte is still read, so that a broken or truncated file is
found, but the expensive inverse transform is done only for the pixels that the statistics need.
"""

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from graft.core.cpu import available_cores
from graft.core.errors import DataError
from graft.data.records import Record
from graft.data.safe_paths import read_bytes
from graft.imaging import jpeg, multichannel
from graft.imaging.decode import (
    MAX_PIXELS,
    ImageError,
    check_jpeg,
    has_empty_alpha,
    is_wide,
    load,
    open_image,
    upright_rgb,
)
from graft.imaging.decoder_warnings import said
from graft.imaging.header import Facts, completed, facts_of
from graft.imaging.signatures import EXTENSIONS
from graft.imaging.value_range import Extremes, ValueRange, extremes, shared_range

SIGNATURE_SIDE = 32
# Statistics are computed at one size, so that they are comparable between cameras.
STATISTICS_SIDE = 128
_COLOUR_SIDE = 16
# Files that are read or examined ahead of the consumer.
_AHEAD = 256
_LEVELS = np.arange(256) / 255.0
_SQUARES = _LEVELS**2


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of the pixels, at about the input size of a model."""

    brightness: float
    """Mean luminance, 0 to 1."""
    contrast: float
    """Standard deviation of the luminance."""
    darkest: float
    """1st percentile of the luminance: a line drawing on white has darker pixels than that, a washed-out photo none."""
    brightest: float
    """99th percentile of the luminance."""
    sharpness: float
    """Standard deviation of the Laplacian over the contrast; falls with blur."""
    entropy: float
    """Entropy of the luminance histogram in bits, 0 to 8."""
    red: float
    green: float
    blue: float
    """Mean of each channel, 0 to 1."""
    saturation: float
    """Mean difference between the strongest and the weakest channel, 0 to 1."""
    seen_through: bool
    """At least one pixel is not opaque."""
    empty_alpha: bool
    """No pixel has any opacity: the alpha is not believed."""
    signature: bytes
    """Luminance at 32 x 32, row by row, for the search for near-duplicates."""


@dataclass(frozen=True, slots=True)
class Examination:
    """Everything that the checks use about one file; facts and statistics are None if it could not be read."""

    id: str
    """sha256 of the bytes, hex; empty if they could not be read."""
    size: int
    """Number of bytes."""
    fault: str = ""
    """A fault of `graft.imaging.decode` or `unreadable`; empty if the file was decoded."""
    fault_text: str = ""
    facts: Facts | None = None
    statistics: Statistics | None = None
    warning: str = ""
    """What the decoder says about a file that it reads; empty if nothing."""
    extremes: Extremes | None = None
    """Of the values of a wide image, see `value_range`; None for images of 8 bits."""


Lookup = Callable[[str], Examination | None]


def examine(
    content: bytes, max_pixels: int = MAX_PIXELS, channels: int = 3, values: ValueRange | None = None
) -> Examination:
    """Examine one file's bytes; a file that cannot be read has its `fault` set instead of raising.

    If the channels are not RGB or grey, the statistics are of the first three. Those of a wide image are of its pixels
    in the range `values`, or, while the range of the set is not known, in the range that it would have on its own.
    """
    return _examine(content, hashlib.sha256(content).hexdigest(), max_pixels, channels, values)


def examine_all(
    records: Iterable[Record],
    max_pixels: int,
    max_bytes: int,
    known: Lookup | None = None,
    workers: int | None = None,
    channels: int = 3,
    values: ValueRange | None = None,
) -> Iterator[Examination]:
    """Examine the files of `records` on all cores, in order.

    Threads are enough: Pillow releases the GIL while it decodes and resizes, hashlib while it hashes.

    Args:
        records: what to examine.
        max_pixels: an image with more pixels is a decompression bomb.
        max_bytes: larger files are not read.
        known: returns the earlier examination of a content by its sha256, or None.
        workers: threads; None: one per core this process may use.
        channels: the number that every image must have, see `multichannel.decode`.
        values: what is black and white in wide images, see `examine`.
    """

    def one(record: Record) -> Examination:
        try:
            content = read_bytes(record.file, max_bytes, resolved=True)
        except DataError as error:
            return Examination("", 0, "unreadable", str(error))
        identity = hashlib.sha256(content).hexdigest()
        before = known(identity) if known else None
        return before or _examine(content, identity, max_pixels, channels, values)

    waiting: deque[Future[Examination]] = deque()
    with ThreadPoolExecutor(workers or available_cores()) as pool:
        for record in records:
            waiting.append(pool.submit(one, record))
            if len(waiting) >= _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def extension_fits(path: str, image_format: str) -> bool:
    """Return whether a file name's extension is usual for the format found in the file."""
    return PurePosixPath(path).suffix.lower() in EXTENSIONS.get(image_format, ())


def _examine(content: bytes, identity: str, max_pixels: int, channels: int, values: ValueRange | None) -> Examination:
    try:
        if channels not in multichannel.CONVERTIBLE:
            samples = multichannel.wide_samples(content, channels, max_pixels)
            found = extremes(samples) if samples is not None else None
            own = values or (shared_range([found]) if found else None)
            picture = multichannel.preview(content, channels, max_pixels, own)
            # Some files store the orientation after the pixels: take the size from the decoded picture.
            facts = replace(
                multichannel.facts(content, channels, max_pixels),
                width=picture.width,
                height=picture.height,
                alpha=False,
            )
            seen = replace(facts, orientation=1)
            statistics = _statistics(picture, seen, None)
            return Examination(identity, len(content), facts=facts, statistics=statistics, extremes=found)
        with said() as texts:
            image = open_image(content, max_pixels)
            facts = facts_of(image, content)
            image, warning = _decoded(image, content)
            facts = completed(facts, image)
        warning = "; ".join(filter(None, (warning, *texts)))
        found = extremes(np.asarray(image)) if is_wide(image) else None
        statistics = _statistics(image, facts, values or (shared_range([found]) if found else None))
        return Examination(identity, len(content), facts=facts, statistics=statistics, warning=warning, extremes=found)
    except ImageError as error:
        return Examination(identity, len(content), error.kind, str(error))


def _decoded(image: Image.Image, content: bytes) -> tuple[Image.Image, str]:
    """Return the pixels of an opened image, and what libjpeg says about them."""
    frame = jpeg.frame(content)
    if frame is None or frame.components not in multichannel.CONVERTIBLE:
        return load(image, content), ""
    most = max(image.size) // STATISTICS_SIDE
    scale = next((power for power in (8, 4, 2) if power <= most), 1)
    size = (math.ceil(image.height / scale), math.ceil(image.width / scale))
    decoded = jpeg.decode(content, "GRAY" if frame.components == 1 else "RGB", *size)
    if decoded is None:
        return load(image, content), ""
    check_jpeg(decoded.warning, decoded.damaged)
    pixels = decoded.pixels[:, :, 0] if frame.components == 1 else decoded.pixels
    picture = Image.fromarray(pixels)
    picture.format = image.format
    return picture, decoded.warning


def _smaller(image: Image.Image) -> Image.Image:
    """Shrink by an integer factor first, if the mode allows it."""
    factor = max(image.size) // (2 * STATISTICS_SIDE)
    if factor < 2 or image.mode not in ("RGB", "L", "RGBA", "LA", "CMYK", "YCbCr"):
        return image
    reduced = image.reduce(factor)
    reduced.format, reduced.info = image.format, image.info
    return reduced


def _statistics(image: Image.Image, facts: Facts, values: ValueRange | None) -> Statistics:
    # Pillow applies a TIFF's orientation when it loads it.
    rgb = upright_rgb(_smaller(image), facts.orientation if image.format != "TIFF" else 1, values)
    grey = rgb.convert("L")
    scale = STATISTICS_SIDE / max(grey.size)
    if scale < 1:
        size = (max(1, round(grey.width * scale)), max(1, round(grey.height * scale)))
        grey = grey.resize(size, Image.Resampling.BOX)
    light = np.asarray(grey)
    share = np.bincount(light.ravel(), minlength=256) / light.size
    cumulated = share.cumsum()
    mean = float(share @ _LEVELS)
    contrast = math.sqrt(max(0.0, float(share @ _SQUARES) - mean**2))
    present = share[share > 0]
    signature = grey.resize((SIGNATURE_SIDE, SIGNATURE_SIDE), Image.Resampling.BOX)
    red, green, blue, saturation = _colour(rgb)
    empty = facts.alpha and has_empty_alpha(image)
    return Statistics(
        brightness=mean,
        contrast=contrast,
        darkest=_percentile(cumulated, 0.01),
        brightest=_percentile(cumulated, 0.99),
        sharpness=_edges(light) / max(contrast, 1.0 / 255.0),
        entropy=max(0.0, -float(present @ np.log2(present))),
        red=red,
        green=green,
        blue=blue,
        saturation=saturation,
        seen_through=facts.alpha and not empty and _is_seen_through(image),
        empty_alpha=empty,
        signature=signature.tobytes(),
    )


def _colour(rgb: Image.Image) -> tuple[float, float, float, float]:
    """Return the mean of each channel and the mean saturation."""
    colours = np.asarray(rgb.reduce(max(1, max(rgb.size) // _COLOUR_SIDE))).reshape(-1, 3)
    red, green, blue = (colours.sum(axis=0) / (255.0 * len(colours))).tolist()
    strongest = np.maximum(np.maximum(colours[:, 0], colours[:, 1]), colours[:, 2])
    weakest = np.minimum(np.minimum(colours[:, 0], colours[:, 1]), colours[:, 2])
    return red, green, blue, int((strongest - weakest).sum(dtype=np.int64)) / (255.0 * len(colours))


def _percentile(cumulated: npt.NDArray[np.float64], share: float) -> float:
    return float(_LEVELS[min(255, int(np.searchsorted(cumulated, share)))])


def _edges(light: npt.NDArray[np.uint8]) -> float:
    """Return the standard deviation of the Laplacian of luminance, in units of white."""
    if min(light.shape) < 3:
        return 0.0
    level = light.astype(np.int16)
    centre = level[1:-1, 1:-1]
    laplacian = level[:-2, 1:-1] + level[2:, 1:-1] + level[1:-1, :-2] + level[1:-1, 2:] - 4 * centre
    flat = laplacian.ravel().astype(np.float32)
    return float(flat.std()) / (4 * 255.0)


def _is_seen_through(image: Image.Image) -> bool:
    return bool(np.asarray(image.convert("RGBA").getchannel("A")).min(initial=255) < 255)
