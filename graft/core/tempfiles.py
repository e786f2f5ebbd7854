"""Arrays that live in a file while they are needed: what is looked at a part at a time takes no memory as a whole."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt


@contextmanager
def scratch(shape: tuple[int, ...]) -> Iterator[npt.NDArray[np.uint8]]:
    """Give an array of zeros, uint8, in a temporary file that no one else sees and that is gone afterwards.

    Rows that are never written take no room on the disk either.
    """
    with tempfile.TemporaryFile(prefix="graft-") as file:
        # A file without a byte cannot be mapped.
        file.truncate(max(1, int(np.prod(shape))))
        yield np.memmap(file, np.uint8, "r+", shape=(*shape,)) if np.prod(shape) else np.zeros(shape, np.uint8)
