"""How much memory a computation needs for each more image: of what Python and NumPy allocate, not of the process."""

import gc
import tracemalloc
from collections.abc import Callable


def peak(compute: Callable[[], object]) -> int:
    """Return the most bytes allocated at one time while computing."""
    gc.collect()
    tracemalloc.start()
    try:
        compute()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def growth(compute: Callable[[int], Callable[[], object]], few: int, many: int) -> float:
    """Return the bytes that each image takes beyond the `few`; `compute` prepares a computation on so many.

    The first call warms caches up and does not count.
    """
    compute(few)()
    return (peak(compute(many)) - peak(compute(few))) / (many - few)
