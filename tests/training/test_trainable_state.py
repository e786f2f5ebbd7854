"""A copy has its own tensors for what a stage trains and shares the rest."""

import pytest
import torch

from graft.models.classifier import Classifier
from graft.training.trainable_state import changed_groups, copied, load_tensors, trainable_tensors
from tests.support.tiny_training import untrained


@pytest.fixture(scope="module")
def start() -> Classifier:
    return untrained()


def test_frozen_groups_are_shared_not_copied(start: Classifier) -> None:
    twin = copied(start, ["features.2"])
    assert twin.backbone.groups[0] is start.backbone.groups[0]
    assert twin.backbone.groups[-1] is not start.backbone.groups[-1]
    assert twin.head is not start.head
    pairs = zip(twin.state_dict().values(), start.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_copy_on_another_device_shares_nothing(start: Classifier) -> None:
    elsewhere = copied(start, ["features.2"], torch.device("meta"))
    assert {tensor.device.type for tensor in elsewhere.state_dict().values()} == {"meta"}
    assert {tensor.device.type for tensor in start.state_dict().values()} == {"cpu"}


def test_loaded_tensors_restore_the_classifier(start: Classifier) -> None:
    twin = copied(start, ["features.2"])
    with torch.no_grad():
        for parameter in twin.backbone.groups[-1].parameters():
            parameter.add_(1.0)
    groups = start.backbone.spec.groups
    assert changed_groups(groups, start, twin) == ("features.2",)
    load_tensors(twin, trainable_tensors(start, ["features.2"]))
    assert changed_groups(groups, start, twin) == ()
