"""The latency of a model for one image, independent of other load on the machine."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

MIN_ROUNDS, MAX_ROUNDS = 3, 20
TIME_BUDGET_SECONDS = 0.5
"""After this time no round beyond `MIN_ROUNDS` starts."""
BUSY = 1.5
"""By this factor the clock may exceed the CPU time before the machine counts as busy."""


class Latency(NamedTuple):
    """The time of one image in milliseconds."""

    milliseconds: float
    """On an idle machine."""
    clock: float
    """As the clock measured it here."""

    @property
    def said(self) -> str:
        """What to say of a busy machine; empty for an idle one."""
        if self.clock <= BUSY * self.milliseconds:
            return ""
        return (
            f"measured on a busy machine: {self.clock:.0f} ms by the clock, of which it computed "
            f"{self.milliseconds:.0f} ms; judged by the latter"
        )

    @property
    def tags(self) -> dict[str, str]:
        """Tags of a registered version."""
        found = {"milliseconds": f"{self.milliseconds:.1f}"}
        return found | {"latency": self.said} if self.said else found


def latency_milliseconds(run: Callable[[bytes], object], images: Sequence[bytes]) -> float:
    """Return the time of a single image on an idle machine; see `measure_latency`."""
    return measure_latency(run, images).milliseconds


def measure_latency(run: Callable[[bytes], object], images: Sequence[bytes]) -> Latency:
    """Return the time of a single image: for each image the minimum over several rounds, then the median over images.

    Other work on the machine can only add time, so the minimum is the time of an idle machine; a mean or a median over
    rounds would measure how busy the machine was. On a machine that is busy all the time even the minimum is waiting.
    The CPU time of all threads of this process bounds it: an idle machine never takes longer than the work itself, one
    thread after the other. A first round, which loads the model and fills caches, is not counted.

    Args:
        run: predicts one image.
        images: contents of image files; images of different sizes take different times.
    """
    for image in images:
        run(image)
    rounds: list[list[tuple[float, float]]] = []
    began = time.perf_counter()
    while len(rounds) < MIN_ROUNDS or (len(rounds) < MAX_ROUNDS and time.perf_counter() - began < TIME_BUDGET_SECONDS):
        rounds.append([_milliseconds(run, image) for image in images])
    clock, computed = np.min(rounds, axis=0).T
    return Latency(float(np.median(np.minimum(clock, computed))), float(np.median(clock)))


def _milliseconds(run: Callable[[bytes], object], image: bytes) -> tuple[float, float]:
    """Return the time of one call by the clock, and the CPU time of the process in it."""
    start, computed = time.perf_counter(), time.process_time()
    run(image)
    return 1000 * (time.perf_counter() - start), 1000 * (time.process_time() - computed)
