"""Arrays in temporary files, for data that is used in parts and need not fit into memory."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt


@contextmanager
def temporary_array(shape: tuple[int, ...]) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield an array of zeros, uint8, in an anonymous temporary file that is removed afterwards.

    Rows that are never written take no disk space either.
    """
    with tempfile.TemporaryFile(prefix="graft-") as file:
        # An empty file cannot be memory-mapped.
        file.truncate(max(1, int(np.prod(shape))))
        yield np.memmap(file, np.uint8, "r+", shape=(*shape,)) if np.prod(shape) else np.zeros(shape, np.uint8)
