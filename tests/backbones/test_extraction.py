"""The engine: in order, on threads, with flat memory."""

import gc
import threading
import weakref

import numpy as np
import pytest
import torch

from graft.backbones.extraction import CANDIDATE_BATCHES, fastest_batch_size, one_thread_each, run_batches, worker_count


def _pixels(row: int) -> torch.Tensor:
    return torch.full((3, 4, 4), row % 251, dtype=torch.uint8)


def _mean(pixels: torch.Tensor) -> np.ndarray:
    return pixels.float().mean((2, 3)).numpy()


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_results_come_in_order(workers: int, batch_size: int) -> None:
    rows = list(range(30, 0, -1))
    parts = list(run_batches(_mean, _pixels, rows, batch_size=batch_size, workers=workers))
    assert [row for batch, _ in parts for row in batch] == rows
    assert np.concatenate([values for _, values in parts])[:, 0].tolist() == rows
    assert [len(batch) for batch, _ in parts[:-1]] == [batch_size] * (len(parts) - 1)


def test_nothing_to_do() -> None:
    assert list(run_batches(_mean, _pixels, [], batch_size=4, workers=2)) == []


def test_an_error_in_a_thread_ends_it() -> None:
    def broken(row: int) -> torch.Tensor:
        if row == 5:
            raise ValueError("row 5")
        return _pixels(row)

    done: list[int] = []
    batches = run_batches(_mean, broken, range(1000), batch_size=2, workers=2)
    with pytest.raises(ValueError, match="row 5"):
        done.extend(row for batch, _ in batches for row in batch)
    assert done == [0, 1, 2, 3]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("extract")]


@pytest.mark.parametrize("images", [64, 256, 1024])
def test_only_a_few_images_exist_at_any_time(images: int) -> None:
    alive = 0
    most = 0
    lock = threading.Lock()

    def gone() -> None:
        nonlocal alive
        with lock:
            alive -= 1

    def tracked(row: int) -> torch.Tensor:
        nonlocal alive, most
        pixels = _pixels(row)
        with lock:
            alive += 1
            most = max(most, alive)
        weakref.finalize(pixels, gone)
        return pixels

    total = sum(len(batch) for batch, _ in run_batches(_mean, tracked, range(images), batch_size=4, workers=2))
    gc.collect()
    assert total == images
    assert most <= 4 * 2 * 2  # batch, workers, some slack: nothing that grows with the number of images


def test_batch_size_must_not_change_a_bit() -> None:
    def depends_on_batch(pixels: torch.Tensor) -> np.ndarray:
        return _mean(pixels) + (1e-7 if len(pixels) == 8 else 0.0)

    assert fastest_batch_size(_mean, _pixels, range(16)) in CANDIDATE_BATCHES
    assert fastest_batch_size(depends_on_batch, _pixels, range(16)) in (1, 2, 4)
    assert fastest_batch_size(_mean, _pixels, range(3)) in CANDIDATE_BATCHES


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with one_thread_each(2) as pool:
        pool.submit(torch.set_num_threads, 1).result()
    assert torch.get_num_threads() == before


def test_workers() -> None:
    assert worker_count(3) == 3
    assert worker_count("auto") >= 1
