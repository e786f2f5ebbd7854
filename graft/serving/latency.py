"""The latency of a model for one image, independent of other load on the machine."""

import time
from collections.abc import Callable, Sequence

import numpy as np

MIN_ROUNDS, MAX_ROUNDS = 3, 20
TIME_BUDGET_SECONDS = 0.5
"""After this time no round beyond `MIN_ROUNDS` starts."""


def latency_milliseconds(run: Callable[[bytes], object], images: Sequence[bytes]) -> float:
    """Return the time of a single image: for each image the minimum over several rounds, then the median over images.

    Other work on the machine can only add time, so the minimum is the time of an idle machine; a mean or a median over
    rounds would measure how busy the machine was. A first round, which loads the model and fills caches, is not
    counted.

    Args:
        run: predicts one image.
        images: contents of image files; images of different sizes take different times.
    """
    for image in images:
        run(image)
    rounds: list[list[float]] = []
    began = time.perf_counter()
    while len(rounds) < MIN_ROUNDS or (len(rounds) < MAX_ROUNDS and time.perf_counter() - began < TIME_BUDGET_SECONDS):
        rounds.append([_milliseconds(run, image) for image in images])
    return float(np.median(np.min(rounds, axis=0)))


def _milliseconds(run: Callable[[bytes], object], image: bytes) -> float:
    start = time.perf_counter()
    run(image)
    return 1000 * (time.perf_counter() - start)
