"""Sampling images for model selection: the sample does not depend on where or in which order images are listed.

A selection (of a depth, a penalty, a kind of head) rests on an average over images, whose error falls with the root of
their number. Beyond a few thousand, more images hardly change the choice, but cost in proportion.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pandas as pd

Ints = npt.NDArray[np.int64]

CHOICE_IMAGES, CHOICE_PER_CLASS = 5_000, 20
"""Training images used for selection: the first number, or the second for each class if that is more."""


def selection_size(classes: int) -> int:
    """Return how many training images to use for selection."""
    return max(CHOICE_IMAGES, CHOICE_PER_CLASS * classes)


def evenly_spaced(rows: int, most: int) -> Ints:
    """Return at most `most` of `rows` positions, evenly spaced, ascending."""
    return np.linspace(0, rows - 1, min(rows, most)).astype(np.int64)


def sample(
    targets: Ints, groups: Sequence[str] | npt.NDArray[np.object_], most: int, salt: str, per_class: int = 0
) -> Ints:
    """Return rows (m,), ascending, of complete groups: all if there are at most `most`, else about that many.

    Every class gets its share. Only the groups' names and the salt decide which groups are taken. The names come from
    the images' content, so neither the order of rows nor other images move a group in or out, except through the share
    of its class.

    Args:
        targets: class of each row (n,).
        groups: name of each row's group (n,).
        most: rows wanted.
        salt: a different salt draws a different sample.
        per_class: least number of rows per class, where a class has that many.
    """
    if len(targets) <= most:
        return np.arange(len(targets))
    of_row, names = pd.factorize(np.asarray(groups, dtype=object))
    sizes = np.bincount(of_row)
    _, first = np.unique(of_row, return_index=True)
    of_group = targets[first]
    drawn = np.fromiter((_number(f"{salt} {name}") for name in names), np.uint64, len(names))
    order = np.lexsort((drawn, of_group))
    counts = np.bincount(of_group, sizes).astype(np.int64)
    shares = np.maximum(np.rint(counts * (most / len(targets))), np.minimum(counts, max(per_class, 1)))
    ends = np.cumsum(sizes[order])
    # Rows of the same class that precede a group in the order of the draw.
    before = ends - sizes[order] - (np.cumsum(counts) - counts)[of_group[order]]
    taken = np.empty(len(names), dtype=np.bool_)
    taken[order] = before < shares[of_group[order]]
    return np.flatnonzero(taken[of_row])


def _number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest())
