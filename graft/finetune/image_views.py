"""Which images fine-tuning sees, and how: every split as it is and in augmented views, and how folds divide it."""

from dataclasses import dataclass

import torch

from graft.backbones.extraction import pixel_loader
from graft.data.dataset import ImageDataset, Split
from graft.finetune.stage_plan import StagePlan
from graft.heads.linear_probe import make_folds
from graft.heads.protocols import Ints
from graft.imaging.augmentation import Augmentation, augmentation, view_of
from graft.imaging.transform import Transform
from graft.runs.params import FineTuneParams


class ImageViews:
    """One split's pixels, as they are or in augmented views; a view is always the same, whatever the order of reads."""

    def __init__(
        self,
        dataset: ImageDataset,
        split: Split,
        transform: Transform,
        ranges: Augmentation | None = None,
        n_views: int = 1,
        seed: int = 0,
    ) -> None:
        """Read the split's part of the table; pixels are decoded when they are asked for.

        Args:
            dataset: the images.
            split: which of them.
            transform: what an image goes through before the backbone sees it.
            ranges: what views are drawn from; None: every view is the image itself.
            n_views: how many views there are of each image.
            seed: of the views.
        """
        rows = dataset.labelled(split)
        self.rows = rows
        self.task = dataset.task
        self.targets = dataset.targets()[rows]
        self.ids = dataset.table["id"].to_numpy()[rows].tolist()
        self.groups = dataset.table["group"].astype(str).to_numpy()[rows]
        """What belongs together, (n,): images of one group go into one fold."""
        self.transform = transform
        self.ranges, self.n_views, self.seed = ranges, n_views, seed
        self._pixels = pixel_loader(transform, dataset)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    @property
    def augmentation(self) -> str:
        """All that determines the views besides the images."""
        return f"{self.ranges!r} seed {self.seed}" if self.ranges else "none"

    def pixels(self, position: int, view: int) -> torch.Tensor:
        """Return uint8 (C, S, S)."""
        plain = self._pixels(int(self.rows[position]))
        return plain if self.ranges is None else view_of(plain, self.ranges, self.seed, view, self.ids[position])


@dataclass(frozen=True)
class SplitViews:
    """One split's images: as they are, and in augmented views."""

    plain: ImageViews
    augmented: ImageViews


@dataclass(frozen=True)
class TuningImages:
    """All images that fine-tuning sees."""

    train: SplitViews
    val: SplitViews
    folds: list[tuple[Ints, Ints]]
    """Positions among the training images to train on and to hold out; empty where the validation images judge."""

    @classmethod
    def of(cls, dataset: ImageDataset, transform: Transform, plan: StagePlan, params: FineTuneParams) -> "TuningImages":
        """Return the images as the plan wants them seen."""
        ranges = augmentation(plan.augment, params.flip, params.custom)

        def views(split: Split) -> SplitViews:
            augmented = ImageViews(dataset, split, transform, ranges, plan.views, params.seed)
            return SplitViews(ImageViews(dataset, split, transform), augmented)

        train, val = views("train"), views("val")
        strata = dataset.task.strata(train.plain.targets)
        folds = make_folds(strata, train.plain.groups, plan.folds, params.seed) if plan.folds else []
        return cls(train, val, folds)
