"""What a stage of fine-tuning looks at: pixels in augmented views, or what the frozen groups make of them."""

import torch

from graft.backbones.activation_cache import BoundaryCache, worth_caching
from graft.backbones.backbone import Backbone
from graft.backbones.extraction import pixel_loader
from graft.data.dataset import ImageDataset, Split
from graft.finetune.stage_plan import Stage
from graft.finetune.trainer import Ints, Labelled
from graft.imaging.augmentation import Augmentation, view_of
from graft.models.classifier import Classifier


class Pictures:
    """One split's pixels, in any view; the same for whoever asks, in whatever order."""

    def __init__(self, dataset: ImageDataset, split: Split, backbone: Backbone, ranges: Augmentation | None, seed: int):
        rows = dataset.indices(split)
        self.rows = rows
        self.targets = dataset.targets()[rows]
        self.ids = dataset.table["id"].to_numpy()[rows].tolist()
        self.groups = dataset.table["group"].astype(str).to_numpy()[rows]
        self.transform = backbone.spec.transform
        self.ranges, self.seed = ranges, seed
        self._pixels = pixel_loader(self.transform, dataset)

    def pixels(self, position: int, view: int) -> torch.Tensor:
        """Return uint8 (C, S, S)."""
        plain = self._pixels(int(self.rows[position]))
        return plain if self.ranges is None else view_of(plain, self.ranges, self.seed, view, self.ids[position])


class Direct:
    """Inputs of a stage computed as they are needed: nothing is frozen, or caching would not pay."""

    after: str | None = None

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures

    def batch(self, positions: Ints, view: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return normalised images (b, C, S, S)."""
        pixels = torch.stack([self.pictures.pixels(int(position), view) for position in positions])
        normal = self.pictures.transform.normalise(pixels)
        return normal.contiguous(memory_format=torch.channels_last), []


class Cached:
    """Inputs of a stage read from the activations after its last frozen group."""

    def __init__(self, cache: BoundaryCache, taps: tuple[str, ...]) -> None:
        self.cache = cache
        self.after: str | None = cache.after
        self.taps = [tap for tap in taps if tap in cache.widths]

    def batch(self, positions: Ints, view: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return boundary activations and the pooled features of the head's taps below."""
        return self.cache.batch(positions, view), self.cache.taps(positions, view, self.taps)


def inputs(best: Classifier, stage: Stage, pictures: Pictures, views: int) -> Labelled:
    """Return the inputs of a stage: cached after the last group below those it trains, wherever that pays.

    Args:
        best: the model the stage starts from.
        stage: which groups it trains.
        pictures: of one split.
        views: how many augmented views there are of each.
    """
    backbone = best.backbone
    frozen = backbone.spec.groups[: backbone.spec.index(stage.name)]
    views = views if pictures.ranges else 1
    if not frozen or not worth_caching(backbone, frozen[-1], len(pictures.rows), views):
        return Labelled.all(Direct(pictures), pictures.targets)
    cache = BoundaryCache.open(
        backbone,
        frozen[-1],
        pictures.pixels,
        pictures.ids,
        views=views,
        augmentation=f"{pictures.ranges!r} seed {pictures.seed}" if pictures.ranges else "none",
    )
    return Labelled.all(Cached(cache, best.head.spec.taps), pictures.targets)
