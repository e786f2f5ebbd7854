"""Memory growth of a computation per image: allocations of Python and NumPy, not of the whole process."""

import gc
import tracemalloc
from collections.abc import Callable


def peak(compute: Callable[[], object]) -> int:
    """Return the peak of allocated bytes during the computation."""
    gc.collect()
    tracemalloc.start()
    try:
        compute()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def growth(compute: Callable[[int], Callable[[], object]], few: int, many: int) -> float:
    """Return the additional bytes per image from `few` to `many`; `compute(n)` prepares a computation on n images.

    The first call warms up caches and does not count.
    """
    compute(few)()
    return (peak(compute(many)) - peak(compute(few))) / (many - few)
