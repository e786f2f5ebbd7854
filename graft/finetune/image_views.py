"""The images of fine-tuning: each split without and with augmentation, and the folds of the training images."""

import copy
from dataclasses import dataclass

import torch

from graft.backbones.extraction import pixel_loader
from graft.data.dataset import ImageDataset
from graft.data.records import Split
from graft.finetune.stage_plan import StagePlan
from graft.heads.cross_validation import make_folds
from graft.heads.protocols import Ints
from graft.imaging.augmentation import Augmentation, augmentation, view_of
from graft.imaging.transform import Transform
from graft.params.fine_tune import FineTuneParams


class ImageViews:
    """The pixels of one split, plain or in augmented views; views do not depend on the order of reads."""

    def __init__(
        self,
        dataset: ImageDataset,
        split: Split,
        transform: Transform,
        ranges: Augmentation | None = None,
        n_views: int = 1,
        seed: int = 0,
    ) -> None:
        """Read the split's rows of the table; pixels are decoded on demand.

        Args:
            dataset: the images.
            split: which images.
            transform: the preprocessing of the backbone.
            ranges: ranges of the augmentation; None: every view is the plain image.
            n_views: number of views of each image.
            seed: seed of the views.
        """
        rows = dataset.labelled(split)
        self.rows = rows
        self.task = dataset.task
        self.targets = dataset.targets()[rows]
        self.ids = dataset.table["id"].to_numpy()[rows].tolist()
        self.groups = dataset.table["group"].astype(str).to_numpy()[rows]
        """Group of each image (n,): images of one group go into one fold."""
        self.transform = transform
        self.ranges, self.n_views, self.seed = ranges, n_views, seed
        self._pixels = pixel_loader(transform, dataset)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def subset(self, positions: Ints) -> "ImageViews":
        """Return the images at `positions` among these, in the same views."""
        found = copy.copy(self)
        found.rows, found.targets, found.groups = self.rows[positions], self.targets[positions], self.groups[positions]
        found.ids = [self.ids[position] for position in positions]
        return found

    @property
    def augmentation(self) -> str:
        """Everything that determines the views besides the images."""
        return f"{self.ranges!r} seed {self.seed}" if self.ranges else "none"

    def pixels(self, position: int, view: int) -> torch.Tensor:
        """Return uint8 (C, S, S)."""
        plain = self._pixels(int(self.rows[position]))
        return plain if self.ranges is None else view_of(plain, self.ranges, self.seed, view, self.ids[position])


@dataclass(frozen=True)
class SplitViews:
    """The images of one split: plain, and in augmented views."""

    plain: ImageViews
    augmented: ImageViews


@dataclass(frozen=True)
class TuningImages:
    """All images that fine-tuning uses."""

    train: SplitViews
    val: SplitViews
    folds: list[tuple[Ints, Ints]]
    """Positions among the training images to train on and to hold out; empty if the validation images judge stages."""

    @classmethod
    def of(cls, dataset: ImageDataset, transform: Transform, plan: StagePlan, params: FineTuneParams) -> "TuningImages":
        """Return the images, with the views and folds of the plan."""
        ranges = augmentation(plan.augment, params.flip, params.custom)

        def views(split: Split) -> SplitViews:
            augmented = ImageViews(dataset, split, transform, ranges, plan.views, params.seed)
            return SplitViews(ImageViews(dataset, split, transform), augmented)

        train, val = views("train"), views("val")
        strata = dataset.task.strata(train.plain.targets)
        folds = make_folds(strata, train.plain.groups, plan.folds, params.seed) if plan.folds else []
        return cls(train, val, folds)
