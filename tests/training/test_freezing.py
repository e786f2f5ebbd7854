"""Which parameters are trained in a stage, at which rate, and which never change."""

import copy

import pytest
import torch
from torch import nn

from graft.backbones.backbone import build_backbone
from graft.models.classifier import Classifier, Head, HeadSpec
from graft.training.freezing import apply_freeze, parameter_groups
from graft.training.stage import Stage

GROUPS = ("stem", *(f"blocks.{i}" for i in range(7)), "neck")


@pytest.fixture
def classifier() -> Classifier:
    backbone = build_backbone("tf_efficientnet_lite0", "none", image_size=32)
    return Classifier(backbone, Head(HeadSpec(taps=("neck",), features=1280), 3))


def test_freezing_covers_gradients_and_norms(classifier: Classifier) -> None:
    apply_freeze(classifier, ("blocks.6", "neck"), train_norms=True)
    classifier.train()
    for name, group in zip(GROUPS, classifier.backbone.groups, strict=True):
        trained = name in ("blocks.6", "neck")
        assert all(parameter.requires_grad == trained for parameter in group.parameters())
        assert all(module.training == trained for module in group.modules())
    assert all(parameter.requires_grad for parameter in classifier.head.parameters())


def test_norms_of_trained_groups_may_stay_frozen(classifier: Classifier) -> None:
    apply_freeze(classifier, ("neck",), train_norms=False)
    classifier.train()
    neck = classifier.backbone.groups[-1]
    assert neck.training
    norms = [module for module in neck.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(module.training for module in norms)


def test_norms_and_biases_may_be_all_that_is_trained(classifier: Classifier) -> None:
    apply_freeze(classifier, ("blocks.6", "neck"), train_norms=False, norms_only=True)
    found = [parameter for parameter in classifier.backbone.parameters() if parameter.requires_grad]
    assert found
    assert all(parameter.ndim == 1 for parameter in found)
    assert sum(parameter.numel() for parameter in found) < 10_000
    groups = parameter_groups(classifier, Stage(("blocks.6", "neck"), 1, 0.1), 0.5, 0.2)
    assert sum(len(group["params"]) for group in groups) == len(found) + len(list(classifier.head.parameters()))


def test_frozen_buffers_do_not_drift(classifier: Classifier) -> None:
    before = copy.deepcopy(classifier.backbone.state_dict())
    apply_freeze(classifier, ("neck",), train_norms=True)
    classifier.train()
    for _ in range(3):
        classifier(torch.randn(4, 3, 32, 32))
    after = classifier.backbone.state_dict()
    moved = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {str(len(GROUPS) - 1)}


def test_every_trained_parameter_is_in_exactly_one_group_with_its_rate(classifier: Classifier) -> None:
    stage = Stage(("blocks.5", "blocks.6", "neck"), epochs=1, lr=1.0)
    apply_freeze(classifier, stage.groups, train_norms=False)
    groups = parameter_groups(classifier, stage, layer_decay=0.5, weight_decay=0.1)
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in classifier.parameters() if p.requires_grad)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    expected = {"blocks.5": 0.25, "blocks.6": 0.5, "neck": 1.0}
    for name, group in zip(GROUPS, classifier.backbone.groups, strict=True):
        assert {rates[id(p)] for p in group.parameters() if p.requires_grad} == (
            {expected[name]} if name in expected else set()
        )
    assert {rates[id(p)] for p in classifier.head.parameters()} == {1.0}
    assert all(group["weight_decay"] == (0.1 if group["params"][0].ndim > 1 else 0.0) for group in groups)
