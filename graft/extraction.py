"""The extraction engine: images in, pooled features of every group out, at the speed of the hardware.

Each of a few threads decodes, transforms and runs whole small batches on its own core: batches of 4 to 16 stay in its
cache, and one thread per operation avoids waiting for the others. Batches are cut by row, so the numbers are the same
bit by bit whatever the number of threads. Only a few batches exist at any time, whatever the number of images.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from graft.backbone import Backbone
from graft.errors import DataError, ModelError
from graft.fold import for_inference
from graft.transform import Transform

Features = npt.NDArray[np.float32]
Forward = Callable[[torch.Tensor], Features]
"""uint8 pixels (B, 3, S, S) -> float32 (B, sum of widths), every tap side by side."""

CANDIDATE_BATCHES = (4, 8, 16)
_PROBE_IMAGES = 2

T = TypeVar("T")
R = TypeVar("R")


def forward_of(backbone: Backbone) -> Forward:
    """Return the backbone's taps as one function of pixels, folded and channels_last, for the CPU."""
    transform = backbone.spec.transform
    with one_thread_each(1) as pool:  # with more, a machine that is busy takes ten times as long for so small a batch
        fast = pool.submit(_folded, backbone).result()

    def forward(pixels: torch.Tensor) -> Features:
        with torch.inference_mode():
            batch = transform.normalise(pixels).contiguous(memory_format=torch.channels_last)
            features: Features = torch.cat(fast.taps(batch), dim=1).numpy()
            return features

    return forward


def extract(
    forward: Forward,
    transform: Transform,
    read: Callable[[], Sequence[bytes]],
    rows: Sequence[int],
    *,
    batch_size: int,
    workers: int,
    name: Callable[[int], str] = str,
) -> Iterator[tuple[Sequence[int], Features]]:
    """Yield the features of `rows`, batch by batch, in order.

    Args:
        forward: see `forward_of`; called from several threads at once.
        transform: makes the pixels.
        read: opens the images by row; called once per thread.
        rows: which images.
        batch_size: images per forward pass; the last batch may be smaller.
        workers: number of threads.
        name: what to call the image of a row in an error.

    Yields:
        The rows of a batch and their features, float32 (b, sum of widths).

    Raises:
        DataError: if an image cannot be decoded.
        ModelError: if features are not finite.
    """
    local = threading.local()

    def work(batch: Sequence[int]) -> tuple[Sequence[int], Features]:
        if not hasattr(local, "images"):
            # OpenMP keeps this number per thread: it must be set in each.
            torch.set_num_threads(1)
            local.images = read()
        features = forward(torch.stack([_pixels(transform, local.images[row], row, name) for row in batch]))
        if not np.isfinite(features).all():
            row = batch[int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])]
            raise ModelError(f"{name(row)}: the backbone's features are not finite; the weights may be broken")
        return batch, features

    batches = (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))
    with one_thread_each(workers) as pool:
        yield from _in_order(pool, work, batches, ahead=2 * workers)


def workers_of(asked: int | Literal["auto"]) -> int:
    """Return the number of threads: as asked, or one per core this process may use."""
    return len(os.sched_getaffinity(0)) if asked == "auto" else asked


def best_batch(forward: Forward, transform: Transform, images: Sequence[bytes], rows: Sequence[int]) -> int:
    """Return the fastest batch size on one thread, among those that change no bit of the features.

    Measured on the first of `rows`, with the arguments of `extract`.
    """

    def measure() -> int:
        torch.set_num_threads(1)
        sample = [transform.pixels(images[row]) for row in rows[: CANDIDATE_BATCHES[-1]]]
        pixels = torch.stack(sample)
        forward(pixels[:1])  # the first call allocates and picks kernels
        seconds: dict[int, float] = {}
        reference: Features | None = None
        for size in CANDIDATE_BATCHES:
            start = time.thread_time()
            features = np.concatenate([forward(part) for part in torch.split(pixels, size)])
            taken = time.thread_time() - start
            reference = features if reference is None else reference
            if np.array_equal(features, reference):
                seconds[size] = taken
        return min(seconds, key=seconds.__getitem__)

    with one_thread_each(1) as pool:
        return pool.submit(measure).result()


@contextmanager
def one_thread_each(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool whose threads may set torch to one thread each; torch's own setting is put back afterwards."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="extract")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _in_order(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterator[T], ahead: int) -> Iterator[R]:
    """Yield `work(item)` in the order of `items`, with at most `ahead` of them under way."""
    pending: deque[Future[R]] = deque()
    for item in items:
        pending.append(pool.submit(work, item))
        if len(pending) >= ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _pixels(transform: Transform, content: bytes, row: int, name: Callable[[int], str]) -> torch.Tensor:
    try:
        return transform.pixels(content)
    except DataError as error:
        raise DataError(f"{name(row)}: {error}") from error


def _folded(backbone: Backbone) -> Backbone:
    torch.set_num_threads(1)
    return for_inference(backbone, _probe(backbone.spec.transform), _taps)


def _taps(backbone: Backbone, batch: torch.Tensor) -> list[torch.Tensor]:
    return backbone.taps(batch)


def _probe(transform: Transform) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    size = transform.size
    return torch.randn(_PROBE_IMAGES, 3, size, size, generator=generator)
