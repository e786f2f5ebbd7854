"""The output layer of a network: on the features of the last group it computes what the complete network does."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision

from graft.backbones.backbone import build_backbone
from graft.backbones.pretrained_classifier import NoSource, SourceClassifier
from graft.backbones.weights import create


@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "densenet121", "shufflenet_v2_x0_5"),
        *("convnext_atto", "vit_tiny_patch16_224", "tf_efficientnet_lite0"),
    ],
)
def test_on_the_last_group_it_computes_what_the_network_does(name: str, tmp_path: Path) -> None:
    model, _ = create(name, "none")
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(model.state_dict(), file)
    backbone = build_backbone(name, str(file))
    assert isinstance(backbone.source, SourceClassifier)
    assert len(backbone.source.labels) == len(set(backbone.source.labels)) == 1000
    size = backbone.spec.transform.size
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, features = model.eval()(x).numpy(), backbone(x).numpy()
    found = backbone.source.logits(features, range(1000))
    np.testing.assert_allclose(found, expected, atol=1e-4 * float(np.abs(expected).max()))


def test_the_default_weights_know_imagenet() -> None:
    source = build_backbone("tf_efficientnet_lite0", image_size=64).source
    assert isinstance(source, SourceClassifier)
    assert source.names[310] == ("ant", "emmet", "pismire")
    assert source.labels[309] == "bee"
    assert {"crane (134)", "crane (517)"} <= set(source.labels)


def test_random_weights_know_nothing() -> None:
    source = build_backbone("resnet18", "none").source
    assert isinstance(source, NoSource)
    assert "random weights know no labels" in source.reason


def test_a_file_without_a_fitting_output_layer_knows_nothing(tmp_path: Path) -> None:
    tensors = torchvision.models.mobilenet_v3_small(num_classes=7).state_dict()
    torch.save(tensors, tmp_path / "seven.pth")
    source = build_backbone("mobilenet_v3_small", str(tmp_path / "seven.pth")).source
    assert isinstance(source, NoSource)
    assert source.reason == "extract_features.weights='seven.pth': they have no output layer for mobilenet_v3_small"


def test_an_output_layer_that_is_not_linear_cannot_be_used(tmp_path: Path) -> None:
    torch.save(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "squeeze.pth")
    source = build_backbone("squeezenet1_1", str(tmp_path / "squeeze.pth")).source
    assert isinstance(source, NoSource)
    assert "backbone='squeezenet1_1': its output layer is not a linear layer on the pooled features" in source.reason


def test_the_labels_of_a_file_from_another_framework(shared: Path) -> None:
    half = (0.5, 0.5, 0.5)
    backbone = build_backbone(
        "mobilenet_v2", str(shared / "weights" / "mobilenet_v2_imagenet.pth"), mean=half, std=half
    )
    assert isinstance(backbone.source, SourceClassifier)
    assert backbone.source.labels[309:311] == ("bee", "ant")
