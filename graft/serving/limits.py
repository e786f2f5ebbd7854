"""What one request may ask of a server: rows, bytes, pixels, and large pictures decoded at a time.

A picture of 100 megapixels is a few kilobytes as a file and 300 megabytes when it is decoded; sixteen at once end a
server. The limits are for serving alone: training and batch prediction read one picture after the other.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graft.core.errors import DataError

if TYPE_CHECKING:
    from graft.imaging.transform import Transform

LARGE_PIXELS = 4_000_000
"""From here on a picture counts as large; smaller ones are decoded without waiting."""
PATIENCE_SECONDS = 20.0
"""How long a large picture waits for its turn."""
_MLFLOW_SERVES = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"


class TooLargeError(DataError):
    """A request that asks for more than the server gives (HTTP 413)."""


class BusyError(DataError):
    """A request that waited for its turn in vain (HTTP 503)."""


@dataclass(frozen=True)
class Limits:
    """The limits of a server; each can be set by an environment variable."""

    rows: int = 64
    """`GRAFT_SERVE_ROWS`: images in one request."""
    request_bytes: int = 64 * 2**20
    """`GRAFT_SERVE_BYTES`: of one request, as sent and as image files."""
    pixels: int = 50_000_000
    """`GRAFT_SERVE_PIXELS`: of one image."""
    decoders: int = 2
    """`GRAFT_SERVE_DECODERS`: large images decoded at a time."""

    @classmethod
    def from_environment(cls) -> "Limits":
        """Read them; what is no positive number counts as not set."""
        default = cls()
        return cls(
            rows=_number("ROWS", default.rows),
            request_bytes=_number("BYTES", default.request_bytes),
            pixels=_number("PIXELS", default.pixels),
            decoders=_number("DECODERS", default.decoders),
        )


def is_serving() -> bool:
    """Return whether this process answers requests: MLflow's server, or MLServer, KServe's runtime."""
    return os.environ.get(_MLFLOW_SERVES) == "true" or "mlserver.errors" in sys.modules


class Admission:
    """Lets the requests of a server in as far as its limits permit; a process that serves nothing is not limited."""

    def __init__(self, limits: Limits | None = None) -> None:
        """Take these limits; None: those of the environment."""
        self._limits = limits or Limits.from_environment()
        self._turns = threading.BoundedSemaphore(self._limits.decoders)

    def check(self, images: Sequence[bytes]) -> None:
        """Check the images of one request.

        Raises:
            TooLargeError: if they are too many, or too many bytes.
        """
        if not is_serving():
            return
        rows, most = self._limits.rows, self._limits.request_bytes
        if len(images) > rows:
            raise TooLargeError(f"{len(images):,} images in one request, more than the {rows:,} allowed; send fewer")
        if (size := sum(map(len, images))) > most:
            raise TooLargeError(f"{size:,} bytes of images, more than the {most:,} allowed; send fewer")

    @contextmanager
    def decoding(self, image: bytes, transform: "Transform") -> Iterator["Transform"]:
        """Wait for the turn of an image; yield the transform to decode it with, which refuses one of too many pixels.

        Afterwards the memory of a large one goes back to the system.

        Raises:
            BusyError: if it waited too long.
        """
        if not is_serving():
            yield transform
            return
        transform = transform.model_copy(update={"max_pixels": min(transform.max_pixels, self._limits.pixels)})
        if not _is_large(image):
            yield transform
            return
        if not self._turns.acquire(timeout=PATIENCE_SECONDS):
            raise BusyError("the server is busy with large images; try again later, or send it smaller")
        try:
            yield transform
        finally:
            _return_memory()
            self._turns.release()


def _is_large(image: bytes) -> bool:
    from graft.imaging.decode import open_image  # late: the server's settings need this module before torch

    with suppress(DataError), open_image(image, sys.maxsize) as opened:
        return opened.width * opened.height > LARGE_PIXELS
    return len(image) > LARGE_PIXELS  # what has no header is refused soon, or read as bands


def _return_memory() -> None:
    """Make the C library return what was freed; it would keep it for the next picture of this thread."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _number(name: str, default: int) -> int:
    text = os.environ.get(f"GRAFT_SERVE_{name}", "")
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else default
