"""The extraction engine: images in, pooled features of every group out, at the speed of the hardware.

Each thread decodes, transforms and runs complete small batches on its own core: batches of 1 to 8 stay in its cache,
and no operation waits for other threads. Batches are cut by row, so the features are bit-identical for any number of
threads. Only a few batches exist at any time, whatever the number of images.
"""

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

from graft.backbones.backbone import Backbone
from graft.backbones.bn_folding import Call, for_inference
from graft.core.cpu import available_cores
from graft.core.errors import DataError
from graft.data.dataset import ImageDataset
from graft.imaging.transform import Transform

Features = npt.NDArray[np.float32]
Forward = Callable[[torch.Tensor], Features]
"""uint8 pixels (B, C, S, S) -> float32 (B, sum of widths), all taps concatenated."""

CANDIDATE_BATCHES = (1, 2, 4, 8)
"""Ascending: a runtime that compiles for a batch size pads smaller ones afterwards."""
_PROBE_IMAGES = 2
_TUNING_ROUNDS = 2

T = TypeVar("T")
R = TypeVar("R")
A = TypeVar("A")


def folded_copy(backbone: Backbone, call: Call) -> Backbone:
    """Return a fast frozen copy, see `bn_folding.for_inference`."""
    shape = (_PROBE_IMAGES, *backbone.spec.transform.shape)
    probe = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def make() -> Backbone:
        torch.set_num_threads(1)  # with more, a busy machine takes ten times as long for a batch this small
        return for_inference(backbone, probe, call)

    with one_thread_each(1) as pool:
        return pool.submit(make).result()


def pixel_loader(transform: Transform, dataset: ImageDataset) -> Callable[[int], torch.Tensor]:
    """Return a thread-safe function from a row of `dataset` to its pixels, uint8 (C, S, S)."""
    local = threading.local()
    paths = dataset.table["path"]

    def pixels(row: int) -> torch.Tensor:
        if not hasattr(local, "images"):
            local.images = dataset.reader()
        image = local.images[row]
        try:
            return transform.pixels(image)
        except DataError as error:
            raise DataError(f"{paths.iloc[row]}: {error}") from error

    return pixels


def run_batches(
    forward: Callable[[torch.Tensor], A],
    pixels: Callable[[T], torch.Tensor],
    items: Sequence[T],
    *,
    batch_size: int,
    workers: int,
) -> Iterator[tuple[Sequence[T], A]]:
    """Yield `forward` of `items`, batch by batch, in order.

    Args:
        forward: from pixels uint8 (b, C, S, S) to the result; called from several threads at once.
        pixels: from an item to its pixels; called from several threads at once.
        items: for example rows.
        batch_size: items per forward pass; the last batch may be smaller.
        workers: number of threads.
    """

    def work(batch: Sequence[T]) -> tuple[Sequence[T], A]:
        torch.set_num_threads(1)  # OpenMP keeps this number per thread: it must be set in each
        return batch, forward(torch.stack([pixels(item) for item in batch]))

    batches = (items[start : start + batch_size] for start in range(0, len(items), batch_size))
    with one_thread_each(workers) as pool:
        yield from _in_order(pool, work, batches, ahead=2 * workers)


def worker_count(asked: int | Literal["auto"]) -> int:
    """Return the number of threads: as requested, or one per core this process may use."""
    return available_cores() if asked == "auto" else asked


def fastest_batch_size(forward: Forward, pixels: Callable[[int], torch.Tensor], rows: Sequence[int]) -> int:
    """Return the fastest batch size on one thread, among the most with bit-identical features.

    Measured on the first of `rows`, with the arguments of `run_batches`.
    """

    def measure() -> int:
        torch.set_num_threads(1)
        sample = torch.stack([pixels(row) for row in rows[: CANDIDATE_BATCHES[-1]]])
        seconds = dict.fromkeys(CANDIDATE_BATCHES, float("inf"))
        equal: dict[bytes, list[int]] = {}
        for round_number in range(_TUNING_ROUNDS + 1):
            for size in CANDIDATE_BATCHES:
                start = time.thread_time()
                features = np.concatenate([forward(part) for part in torch.split(sample, size)])
                if round_number:
                    seconds[size] = min(seconds[size], time.thread_time() - start)
                else:  # the first call of a size allocates, picks kernels, and may compile
                    equal.setdefault(features.tobytes(), []).append(size)
        most = max(equal.values(), key=lambda sizes: len(sizes))
        return min(most, key=seconds.__getitem__)

    with one_thread_each(1) as pool:
        return pool.submit(measure).result()


@contextmanager
def one_thread_each(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool whose threads may set torch to one thread each; torch's own setting is restored afterwards."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="extract")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _in_order(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterator[T], ahead: int) -> Iterator[R]:
    """Yield `work(item)` in the order of `items`, with at most `ahead` of them in progress."""
    pending: deque[Future[R]] = deque()
    for item in items:
        pending.append(pool.submit(work, item))
        if len(pending) >= ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
