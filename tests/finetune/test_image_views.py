"""Plain images, augmented views, and folds."""

import numpy as np
import torch

from graft.backbones.extraction import pixel_loader
from graft.data.dataset import ImageDataset
from graft.finetune.image_views import ImageViews, TuningImages
from graft.finetune.stage_plan import make_plan
from graft.imaging.augmentation import augmentation
from graft.models.bundle import ModelBundle
from graft.params.fine_tune import FineTuneParams


def test_views_are_reproducible(dataset: ImageDataset, head: ModelBundle) -> None:
    views = ImageViews(dataset, "train", head.transform, augmentation("light"), n_views=4, seed=0)
    assert torch.equal(views.pixels(3, 1), views.pixels(3, 1))
    assert not torch.equal(views.pixels(3, 1), views.pixels(3, 2))
    plain = ImageViews(dataset, "train", head.transform)
    expected = pixel_loader(head.transform, dataset)(int(dataset.indices("train")[3]))
    assert torch.equal(plain.pixels(3, 0), expected)


def test_everything_that_changes_a_view_is_in_its_description(dataset: ImageDataset, head: ModelBundle) -> None:
    described = {
        ImageViews(dataset, "train", head.transform, ranges, 4, seed).augmentation
        for ranges in (None, augmentation("light"), augmentation("light", flip=True), augmentation("strong"))
        for seed in (0, 1)
    }
    assert len(described) == 7, "plain images have no seed"


def _images(dataset: ImageDataset, head: ModelBundle, params: FineTuneParams) -> TuningImages:
    plan = make_plan(head.spec.backbone.groups, 48, params, best="neck", pretrained=True)
    return TuningImages.of(dataset, head.transform, plan, params)


def test_the_plan_decides_views_and_folds(dataset: ImageDataset, head: ModelBundle) -> None:
    images = _images(dataset, head, FineTuneParams(folds=3))
    assert (len(images.train.plain), len(images.val.plain)) == (48, 24)
    assert (images.train.plain.n_views, images.train.plain.ranges) == (1, None)
    assert (images.train.augmented.n_views, images.train.augmented.ranges) == (4, augmentation("light"))
    assert len(images.folds) == 3
    held_out = np.concatenate([held_out for _, held_out in images.folds])
    assert sorted(held_out.tolist()) == list(range(48)), "every training image is held out once"
    assert all(set(train.tolist()).isdisjoint(held_out.tolist()) for train, held_out in images.folds)


def test_without_folds_and_augmentation(dataset: ImageDataset, head: ModelBundle) -> None:
    images = _images(dataset, head, FineTuneParams(folds=0, augment="none"))
    assert images.folds == []
    assert (images.val.augmented.n_views, images.val.augmented.augmentation) == (1, "none")


def test_a_subset_shows_the_same_views_of_its_images(dataset: ImageDataset, head: ModelBundle) -> None:
    views = ImageViews(dataset, "train", head.transform, augmentation("light"), 2, seed=3)
    positions = np.array([7, 2, 30])
    some = views.subset(positions)
    assert len(some) == 3
    assert some.ids == [views.ids[position] for position in positions]
    np.testing.assert_array_equal(some.targets, views.targets[positions])
    for place, position in enumerate(positions):
        torch.testing.assert_close(some.pixels(place, 1), views.pixels(int(position), 1))
