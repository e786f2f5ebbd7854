"""Enough images to choose by: a part of many that is the same wherever and however they are listed.

What is chosen (a depth, a penalty, a kind of head) rests on an average over images, whose error falls with the root of
their number: from some thousands on, more of them hardly change the choice, but cost in proportion.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pandas as pd

Ints = npt.NDArray[np.int64]

CHOICE_IMAGES, CHOICE_PER_CLASS = 5_000, 20
"""Training images that choices are made from: so many, or so many for each class if that is more."""


def enough_to_choose(classes: int) -> int:
    """Return how many training images choices are made from."""
    return max(CHOICE_IMAGES, CHOICE_PER_CLASS * classes)


def evenly_spaced(rows: int, most: int) -> Ints:
    """Return so many of `rows` positions at most, ascending."""
    return np.linspace(0, rows - 1, min(rows, most)).astype(np.int64)


def sample(
    targets: Ints, groups: Sequence[str] | npt.NDArray[np.object_], most: int, salt: str, per_class: int = 0
) -> Ints:
    """Return rows (m,), ascending, of whole groups: all if there are no more than `most`, else about so many.

    Every class gets its share. Which groups are taken follows from their names and the salt alone: they come from the
    content of the images, so that neither the order of rows nor what else is there moves a group in or out, but for
    the share of its class.

    Args:
        targets: class of each row (n,).
        groups: name of each row's group (n,).
        most: rows wanted.
        salt: another one draws others.
        per_class: rows of each class at least, where it has so many.
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
    # Rows of the same class that come before a group in the order of the draw.
    before = ends - sizes[order] - (np.cumsum(counts) - counts)[of_group[order]]
    taken = np.empty(len(names), dtype=np.bool_)
    taken[order] = before < shares[of_group[order]]
    return np.flatnonzero(taken[of_row])


def _number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest())
