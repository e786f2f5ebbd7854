"""Surgical fine-tuning: every group's gradient relative to its weights."""

import torch

from graft.data.dataset import ImageDataset
from graft.finetune.image_views import ImageViews
from graft.finetune.stage_inputs import uncached_inputs
from graft.finetune.surgical import relative_gradient_norms
from graft.models.bundle import ModelBundle


def test_relative_gradient_norms_are_per_group_and_leave_the_weights(dataset: ImageDataset, head: ModelBundle) -> None:
    before = {name: tensor.clone() for name, tensor in head.classifier.state_dict().items()}
    images = uncached_inputs(ImageViews(dataset, "train", head.transform))
    norms = relative_gradient_norms(head.classifier, images)
    assert set(norms) == set(head.backbone.spec.groups)
    assert all(norm > 0 for norm in norms.values())
    assert all(torch.equal(before[name], tensor) for name, tensor in head.classifier.state_dict().items())
