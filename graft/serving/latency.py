"""How long a model takes for one image when nothing disturbs the machine."""

import time
from collections.abc import Callable, Sequence

import numpy as np

FEWEST_ROUNDS, MOST_ROUNDS = 3, 20
ENOUGH_SECONDS = 2.0
"""Beyond the fewest rounds, none is begun after this time."""


def undisturbed_milliseconds(run: Callable[[bytes], object], images: Sequence[bytes]) -> float:
    """Return the time of an image by itself: the least of several rounds for each image, the median of the images.

    Other work on the machine only ever adds time, so the least is what the machine can do; a mean or a median of the
    rounds tells how busy it happened to be. One round before them, which opens the model and fills caches, is not
    counted.

    Args:
        run: asks the model for one image.
        images: files' contents; images of different sizes take different times.
    """
    for image in images:
        run(image)
    rounds: list[list[float]] = []
    began = time.perf_counter()
    while len(rounds) < FEWEST_ROUNDS or (len(rounds) < MOST_ROUNDS and time.perf_counter() - began < ENOUGH_SECONDS):
        rounds.append([_milliseconds(run, image) for image in images])
    return float(np.median(np.min(rounds, axis=0)))


def _milliseconds(run: Callable[[bytes], object], image: bytes) -> float:
    start = time.perf_counter()
    run(image)
    return 1000 * (time.perf_counter() - start)
