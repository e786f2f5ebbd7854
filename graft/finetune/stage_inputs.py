"""The inputs of a stage: the pixels of its images, or the activations after the frozen groups."""

import numpy as np
import torch

from graft.backbones.activation_cache import BoundaryCache, worth_caching
from graft.finetune.image_views import ImageViews
from graft.heads.protocols import Ints
from graft.models.classifier import Classifier
from graft.training.labelled_images import InputBatch, InputSource, LabelledImages
from graft.training.stage import Stage


class PixelSource:
    """Inputs computed on demand: nothing is frozen, or caching would not pay off."""

    after: str | None = None

    def __init__(self, views: ImageViews) -> None:
        self.views = views

    def batch(self, positions: Ints, view: int) -> InputBatch:
        """Return normalised images (b, C, S, S) and no pooled features."""
        pixels = torch.stack([self.views.pixels(int(position), view) for position in positions])
        normal = self.views.transform.normalise(pixels)
        return normal.contiguous(memory_format=torch.channels_last), []


class CachedSource:
    """Inputs read from the cached activations after the stage's last frozen group."""

    def __init__(self, cache: BoundaryCache, taps: tuple[str, ...]) -> None:
        self.cache = cache
        self.after: str | None = cache.after
        self.taps = [tap for tap in taps if tap in cache.widths]

    def batch(self, positions: Ints, view: int) -> InputBatch:
        """Return boundary activations and the pooled features of the head's taps below the boundary."""
        return self.cache.batch(positions, view), self.cache.taps(positions, view, self.taps)


class ConcatSource:
    """Two sources of the same kind of inputs, concatenated: the `n_first` images of the first, then the second's."""

    def __init__(self, first: InputSource, n_first: int, second: InputSource) -> None:
        self.parts = (first, second)
        self.n_first = n_first
        self.after = first.after

    def batch(self, positions: Ints, view: int) -> InputBatch:
        """Return the inputs of the images at `positions`, in that order."""
        in_second = positions >= self.n_first
        order = np.concatenate([np.flatnonzero(~in_second), np.flatnonzero(in_second)])
        back = torch.from_numpy(np.argsort(order))
        chosen = [positions[~in_second], positions[in_second] - self.n_first]
        found = [part.batch(rows, view) for part, rows in zip(self.parts, chosen, strict=True) if len(rows)]
        activation = torch.cat([values for values, _ in found])[back]
        below = [torch.cat(taps)[back] for taps in zip(*(taps for _, taps in found), strict=True)]
        return activation, below


def uncached_inputs(views: ImageViews) -> LabelledImages:
    """Return the normalised images themselves, the inputs of a stage that trains every group."""
    return LabelledImages.all(PixelSource(views), views.task, views.targets, views.groups)


def stage_inputs(start: Classifier, stage: Stage, views: ImageViews) -> LabelledImages:
    """Return the inputs of a stage: cached after its last frozen group, if caching pays off.

    Args:
        start: the model the stage starts from.
        stage: determines the groups to train.
        views: the images of one split.
    """
    backbone = start.backbone
    frozen = backbone.spec.groups[: backbone.spec.index(stage.name)]
    if not frozen or not worth_caching(backbone, frozen[-1], len(views), views.n_views):
        return uncached_inputs(views)
    cache = BoundaryCache.open(
        backbone, frozen[-1], views.pixels, views.ids, views=views.n_views, augmentation=views.augmentation
    )
    return LabelledImages.all(CachedSource(cache, start.head.spec.taps), views.task, views.targets, views.groups)


def joint_inputs(start: Classifier, stage: Stage, first: ImageViews, second: ImageViews) -> LabelledImages:
    """Return the inputs of a stage that trains on two sets of images together, first one, then the other."""
    one, other = stage_inputs(start, stage, first), stage_inputs(start, stage, second)
    if one.source.after != other.source.after:  # there was space to cache only one of them
        one, other = uncached_inputs(first), uncached_inputs(second)
    targets = np.concatenate([one.targets, other.targets])
    groups = np.concatenate([one.groups, other.groups])
    return LabelledImages.all(ConcatSource(one.source, len(one), other.source), one.task, targets, groups)
