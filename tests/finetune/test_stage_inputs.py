"""Inputs of a stage: the cache agrees with the pixels, and two sets of images are read as one."""

import numpy as np
import pytest
import torch

from graft.data.dataset import ImageDataset
from graft.finetune.image_views import ImageViews
from graft.finetune.stage_inputs import joint_inputs, stage_inputs, uncached_inputs
from graft.imaging.augmentation import augmentation
from graft.models.bundle import ModelBundle
from graft.training.prediction import predict
from graft.training.stage import Stage
from tests.support.striped import GROUP

STAGE = Stage((GROUP, "neck"), epochs=1, lr=1e-3)


def _views(dataset: ImageDataset, head: ModelBundle, split: str) -> ImageViews:
    return ImageViews(dataset, split, head.transform, augmentation("light"), n_views=2, seed=0)


def test_cached_activations_give_the_same_logits_as_pixels(dataset: ImageDataset, head: ModelBundle) -> None:
    views = _views(dataset, head, "val")
    cached = stage_inputs(head.classifier, STAGE, views)
    assert cached.source.after == "blocks.5"
    direct = uncached_inputs(views)
    assert direct.source.after is None
    np.testing.assert_array_equal(cached.targets, direct.targets)
    # within the rounding of float16
    logits = predict(head.classifier, direct)
    np.testing.assert_allclose(predict(head.classifier, cached), logits, atol=0.05, rtol=0.02)


def test_a_stage_that_trains_every_group_reads_pixels(dataset: ImageDataset, head: ModelBundle) -> None:
    whole = Stage(head.spec.backbone.groups, epochs=1, lr=1e-3)
    assert stage_inputs(head.classifier, whole, _views(dataset, head, "val")).source.after is None


@pytest.mark.parametrize("room", ["for both", "for one"])
def test_two_sets_are_read_as_one(
    dataset: ImageDataset, head: ModelBundle, monkeypatch: pytest.MonkeyPatch, room: str
) -> None:
    if room == "for one":
        monkeypatch.setattr(
            "graft.finetune.stage_inputs.worth_caching", lambda backbone, group, images, views: images < 48
        )
    train, val = _views(dataset, head, "train"), _views(dataset, head, "val")
    joint = joint_inputs(head.classifier, STAGE, train, val)
    assert joint.source.after == ("blocks.5" if room == "for both" else None)
    assert len(joint) == 72
    np.testing.assert_array_equal(joint.targets, np.concatenate([train.targets, val.targets]))
    parts = stage_inputs if room == "for both" else lambda classifier, stage, views: uncached_inputs(views)
    first, second = (parts(head.classifier, STAGE, views) for views in (train, val))
    for positions in ([50, 3, 71, 48, 0], [1, 2], [49, 70]):
        activation, _ = joint.batch(np.array(positions), 1)
        for position, found in zip(positions, activation, strict=True):
            source, row = (first, position) if position < 48 else (second, position - 48)
            expected, _ = source.batch(np.array([row]), 1)
            assert torch.equal(found, expected[0])
