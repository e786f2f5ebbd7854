"""Progress of long work: a bar on a terminal, a line now and then elsewhere (a log, a pipeline's output)."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 5.0


def progress(items: Iterable[T], what: str, total: int | None = None, unit: str = "images") -> Iterator[T]:
    """Iterate over `items`, showing on standard error how far it is."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, total=total, unit=f" {unit}", leave=False)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            of_total = f"/{total}" if total is not None else ""
            print(f"{what}: {done}{of_total} {unit}, {done / (now - start):.1f}/s", file=sys.stderr, flush=True)
