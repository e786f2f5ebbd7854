"""Work on the next few items while the caller is busy with one."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
THREADS = 2


def ahead(work: Callable[[T], R], items: Iterable[T], chunk: int) -> Iterator[R]:
    """Yield `work(item)` in the order of `items`, on two threads, `chunk` items at a time."""
    left = iter(items)
    with ThreadPoolExecutor(THREADS) as pool:
        while part := list(islice(left, chunk)):
            yield from pool.map(work, part)
