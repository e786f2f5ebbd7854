"""How much deflated data holds, without holding it."""

import zlib

_STEP_BYTES = 2**20


def inflated_size(inflate: "zlib._Decompress", data: bytes) -> int:
    """Return how many bytes data inflates to.

    Raises:
        zlib.error: if it is broken.
    """
    size = 0
    while data:
        size += len(inflate.decompress(data, _STEP_BYTES))
        data = inflate.unconsumed_tail
    return size
