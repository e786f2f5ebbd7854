"""Progress of long work: a bar on a terminal, a line every few seconds elsewhere (a log, a pipeline's output)."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 5.0


def progress(items: Iterable[T], what: str, total: int | None = None, unit: str = "images") -> Iterator[T]:
    """Iterate over `items`, showing the progress on standard error."""
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
            rate = done / (now - start)
            of_total = f"/{total}" if total is not None else ""
            left = f", {_duration((total - done) / rate)} left" if total is not None else ""
            print(f"{what}: {done}{of_total} {unit}, {rate:.1f}/s{left}", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    """Return a readable duration: 40 s, 5 min, 2.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
