"""Thumbnails for the report, re-encoded so that nothing else of the original file (metadata, scripts) gets into it."""

import base64
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from graft.imaging.multichannel import preview
from graft.imaging.value_range import ValueRange
from graft.stats.metrics import Floats

THUMBNAIL = 168
QUALITY = 78


@dataclass(frozen=True)
class Neighbour:
    """A training image that looks similar to the model."""

    path: str
    label: str
    picture: str


@dataclass(frozen=True)
class GalleryImage:
    """One test image with the model's answer."""

    path: str
    label: str
    predicted: str
    probability: float
    picture: str
    """A data URI."""
    attention: str | None = None
    """The model's input, overlaid with its Grad-CAM map, a data URI."""
    nearest: list[Neighbour] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """Whether the answer is right."""
        return self.label == self.predicted


@dataclass(frozen=True)
class Gallery:
    """The images of the report."""

    mistakes: Sequence[GalleryImage] = ()
    """The most confident first."""
    samples: Sequence[GalleryImage] = ()
    """Drawn at random from all test images."""
    confused: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    """A few thumbnails (data URIs) of each confused pair (label, predicted)."""


def surest_mistakes(correct: npt.NDArray[np.bool_], confidence: Floats, most: int) -> npt.NDArray[np.int64]:
    """Return the rows (k,) of the wrong answers of n images, the most confident first."""
    wrong = np.flatnonzero(~correct)
    return wrong[np.argsort(-confidence[wrong], kind="stable")][:most]


def thumbnail(
    content: bytes, side: int = THUMBNAIL, channels: int = 3, values: ValueRange | None = None
) -> npt.NDArray[np.uint8]:
    """Return the centre square of a dataset's image, uint8 (side, side, 3).

    Args:
        content: the file's bytes.
        side: in pixels.
        channels: of the dataset.
        values: of the dataset: what is black and white in wide images.
    """
    picture = preview(content, channels, sys.maxsize, values)  # the dataset holds no image above its limit
    edge = min(picture.size)
    left, top = (picture.width - edge) // 2, (picture.height - edge) // 2
    small = picture.resize(
        (side, side), Image.Resampling.BICUBIC, (left, top, left + edge, top + edge), reducing_gap=2.0
    )
    return np.asarray(small, dtype=np.uint8)


def resize(pixels: npt.NDArray[np.uint8], side: int = THUMBNAIL) -> npt.NDArray[np.uint8]:
    """Resize square pixels (S, S, 3) to the size of a thumbnail."""
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC), dtype=np.uint8)


def data_uri(pixels: npt.NDArray[np.uint8]) -> str:
    """Return pixels (H, W, 3) as a JPEG in a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return jpeg_uri(buffer.getvalue())


def jpeg_uri(content: bytes) -> str:
    """Return the bytes of a JPEG as a data URI."""
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()
