"""The cost of a model: parameters, arithmetic, time and bytes."""

import statistics
import time
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

SECONDS = 0.25
FEWEST_RUNS, MOST_RUNS = 5, 25


class Cost(NamedTuple):
    """Cost of a forward pass on one image."""

    parameters: int
    megaflops: float
    """Millions of floating-point operations, a multiply-add counting two."""
    milliseconds: float
    """Median on one thread of this machine."""
    megabytes: float
    """Of parameters and buffers."""


def cost(module: nn.Module, image: torch.Tensor) -> Cost:
    """Measure a module in eval mode on one normalised image (1, C, S, S)."""
    parameters = sum(tensor.numel() for tensor in module.parameters())
    held: list[Any] = [*module.parameters(), *module.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in held)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode():
        with counter:
            module(image)
        milliseconds = _milliseconds(module, image)
    return Cost(parameters, counter.get_total_flops() / 1e6, milliseconds, size / 1e6)


def _milliseconds(module: nn.Module, image: torch.Tensor) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        taken: list[float] = []
        deadline = time.perf_counter() + SECONDS
        while len(taken) < FEWEST_RUNS or (time.perf_counter() < deadline and len(taken) < MOST_RUNS):
            start = time.perf_counter()
            module(image)
            taken.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return 1000 * statistics.median(taken)
