"""How many maps a decoder needs: linear probes of single pixels, cross-validated over photos.

A decoder takes seconds to fit, a probe of a few thousand pixels a moment. Maps are added from the finest to the
coarsest; coarser ones need deeper groups, so the choice also says how much of the backbone is reused.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from graft.core.errors import ParamsError
from graft.dense.levels import Level
from graft.stats.paired_difference import paired_difference
from graft.tasks.pixels import IGNORED

PIXELS, PHOTOS = 48, 600
"""Pixels of each photo, and most photos, that the probes see."""
RIDGE = 1.0
"""Penalty on the weights of standardised features, times the root of the number of pixels."""
Floats = npt.NDArray[np.float64]


class LabelledMaps(Protocol):
    """Cached maps of photos whose pixels have classes."""

    @property
    def levels(self) -> Sequence[Level]:
        """The maps of every photo, the finest first."""

    @property
    def groups(self) -> npt.NDArray[np.object_]:
        """Name of every photo's group (n,)."""

    def mask(self, row: int) -> npt.NDArray[np.uint8]:
        """Return the class of every pixel that the network sees, (h, w); `IGNORED` beside the photo."""

    def maps_of(self, row: int) -> Sequence[npt.NDArray[np.floating]]:
        """Return the maps (c, h, w) of the same area at every level."""


class MapScore(BaseModel):
    """One point of the depth curve: a linear probe of pixels on all maps up to one group."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tap: str
    """The coarsest map's group."""
    accuracy: float
    """Share of held-out pixels that the probe gets right."""
    loss: float
    """Squared error of its answers, mean over photos."""
    behind: float = 0.0
    """How far the loss lies above that of the best point, photo by photo."""
    error: float = 0.0
    """Standard error of `behind`, over groups of photos."""


def score_maps(store: LabelledMaps, rows: npt.NDArray[np.int64], classes: int, folds: int, seed: int) -> list[MapScore]:
    """Return the depth curve: the first point reads the finest map alone, the last one all maps."""
    generator = np.random.default_rng(seed)
    if len(rows) > PHOTOS:
        rows = np.sort(generator.choice(rows, PHOTOS, replace=False))
    features, targets, photo = _sampled(store, rows, generator)
    names, group = np.unique(store.groups[rows].astype(str), return_inverse=True)
    fold = generator.permutation(len(names))[group] % max(2, min(folds, len(names)))
    answers = np.eye(classes)[targets]
    losses, points = [], []
    for upto in range(len(features)):
        found = _held_out(np.concatenate(features[: upto + 1], axis=1), answers, fold[photo])
        errors = ((found - answers) ** 2).sum(axis=1)
        losses.append(np.bincount(photo, errors, len(rows)) / np.maximum(np.bincount(photo, minlength=len(rows)), 1))
        points.append(float((found.argmax(axis=1) == targets).mean()))
    best = int(np.argmin([loss.mean() for loss in losses]))
    behind = [paired_difference(loss, losses[best], group) for loss in losses]
    return [
        MapScore(tap=level.group, accuracy=point, loss=float(loss.mean()), behind=gap.gain, error=gap.error)
        for level, point, loss, gap in zip(store.levels, points, losses, behind, strict=True)
    ]


def choose_levels(store: LabelledMaps, curve: Sequence[MapScore], depth: str) -> tuple[int, ...]:
    """Return the indices of the maps to read.

    Args:
        store: the maps.
        curve: from `score_maps`.
        depth: auto: the fewest maps that are not clearly behind the best; last: all; or the group of the coarsest.

    Raises:
        ParamsError: if no map is of that group.
    """
    groups = [level.group for level in store.levels]
    if depth == "last":
        return tuple(range(len(groups)))
    if depth == "auto":
        last = next(at for at, point in enumerate(curve) if point.behind <= point.error or point.behind == 0)
        return tuple(range(max(last, 1) + 1))
    if depth not in groups:
        raise ParamsError(f"train_head.reuse_depth={depth!r}: expected auto, last or the group of a map: {groups}")
    return tuple(range(groups.index(depth) + 1))


def _sampled(
    store: LabelledMaps, rows: npt.NDArray[np.int64], generator: np.random.Generator
) -> tuple[list[Floats], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the features of some pixels at every level, their classes, and the place of their photo in `rows`."""
    found: list[list[Floats]] = [[] for _ in store.levels]
    targets, photos = [], []
    for place, row in enumerate(rows):
        mask = store.mask(int(row))
        y, x = np.nonzero(mask != IGNORED)
        if not len(y):
            continue
        chosen = generator.integers(0, len(y), PIXELS)
        y, x = y[chosen], x[chosen]
        targets.append(mask[y, x])
        photos.append(np.full(PIXELS, place))
        for level, maps in zip(found, store.maps_of(int(row)), strict=True):
            height, width = maps.shape[1:]
            down, across = y * height // mask.shape[0], x * width // mask.shape[1]
            level.append(maps[:, down, across].T.astype(np.float64))
    return [np.concatenate(level) for level in found], np.concatenate(targets).astype(np.int64), np.concatenate(photos)


def _held_out(features: Floats, answers: Floats, fold: npt.NDArray[np.int64]) -> Floats:
    """Return what ridge regression of the answers on the features says of pixels it has not seen, (n, k)."""
    found = np.zeros_like(answers)
    for number in _folds(fold):
        out = fold == number
        mean, scale = features[~out].mean(axis=0), features[~out].std(axis=0) + 1e-6
        inside, centre = (features[~out] - mean) / scale, answers[~out].mean(axis=0)
        gram = inside.T @ inside + RIDGE * np.sqrt(len(inside)) * np.eye(inside.shape[1])
        weights = np.linalg.solve(gram, inside.T @ (answers[~out] - centre))
        found[out] = (features[out] - mean) / scale @ weights + centre
    return found


def _folds(fold: npt.NDArray[np.int64]) -> Iterator[int]:
    yield from np.unique(fold).tolist()
