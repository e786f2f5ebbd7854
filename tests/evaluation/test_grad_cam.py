"""Grad-CAM: agrees with the closed form, and works for every layout of activations."""

import numpy as np
import pytest
import torch
from torch import nn

from graft.backbones.backbone import Backbone, build_backbone
from graft.evaluation.grad_cam import attention_maps, nearest, overlay
from graft.models.classifier import Classifier, Head, HeadSpec


def classifier(backbone: Backbone, *taps: str) -> Classifier:
    widths = dict(zip(backbone.spec.groups, backbone.spec.widths, strict=True))
    torch.manual_seed(0)
    head = Head(HeadSpec(taps=taps, features=sum(widths[tap] for tap in taps)), 3)
    return Classifier(backbone.truncated(taps[-1]), head).eval()


@pytest.fixture(scope="module")
def resnet() -> Backbone:
    return build_backbone("resnet18", "none", image_size=128)


def test_at_the_last_group_it_is_the_class_activation_map(resnet: Backbone) -> None:
    model = classifier(resnet, resnet.spec.groups[-1])
    images = torch.randn(4, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    classes = np.array([0, 1, 2, 0])
    maps = attention_maps(model, images, classes)
    assert maps is not None
    seen: list[torch.Tensor] = []
    handle = next(m for m in reversed(list(model.backbone.modules())) if isinstance(m, nn.ReLU)).register_forward_hook(
        lambda _module, _inputs, output: seen.append(output)
    )
    with torch.no_grad():
        model(images)
        weight = model.head.linear.weight[torch.from_numpy(classes)] / model.head.scale
        expected = (seen[-1] * weight[:, :, None, None]).sum(dim=1).clamp(min=0)
    handle.remove()
    peaks = expected.flatten(1).max(dim=1).values[:, None, None]
    np.testing.assert_allclose(maps, (expected / peaks).numpy(), atol=1e-5)


def test_maps_are_between_zero_and_one_and_not_too_coarse(resnet: Backbone) -> None:
    small = torch.randn(2, 3, 96, 96)
    maps = attention_maps(classifier(resnet, resnet.spec.groups[-1]), small, np.array([0, 2]))
    assert maps is not None
    assert min(maps.shape[1:]) >= 4
    assert maps.min() >= 0
    assert maps.max() <= 1


def test_heads_that_read_several_groups(resnet: Backbone) -> None:
    model = classifier(resnet, *resnet.spec.groups[-3:])
    maps = attention_maps(model, torch.randn(2, 3, 128, 128), np.array([0, 1]))
    assert maps is not None
    assert maps.shape == (2, 4, 4)
    assert maps.max() > 0


@pytest.mark.parametrize(("architecture", "size"), [("swin_t", 64), ("vit_tiny_patch16_224", 224)])
def test_transformers_have_maps_too(architecture: str, size: int) -> None:
    backbone = build_backbone(architecture, "none", image_size=size)
    model = classifier(backbone, backbone.spec.groups[-1])
    maps = attention_maps(model, torch.randn(1, 3, size, size), np.array([1]))
    assert maps is not None
    assert min(maps.shape[1:]) >= 4
    assert maps.max() == pytest.approx(1.0) or maps.max() == 0


def test_what_counts_stays_bright() -> None:
    picture = np.full((40, 40, 3), 200, dtype=np.uint8)
    attention = np.zeros((4, 4), dtype=np.float32)
    attention[0, 0] = 1.0
    shown = overlay(picture, attention)
    assert shown.shape == picture.shape
    assert shown[2, 2].sum() > shown[35, 35].sum()


def test_nearest_by_direction_not_length() -> None:
    candidates = np.array([[1.0, 0.0], [0.0, 5.0], [1.0, 1.0]])
    np.testing.assert_array_equal(nearest(np.array([[0.0, 0.1], [3.0, 0.2]]), candidates, 2), [[1, 2], [0, 2]])


@pytest.mark.parametrize("block_bytes", [8, 60, 10_000])
def test_nearest_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    generator = np.random.default_rng(0)
    features, candidates = generator.normal(size=(5, 4)), generator.integers(0, 3, (40, 4)) + 1.0
    monkeypatch.setattr("graft.core.row_blocks.BLOCK_BYTES", block_bytes)
    unit = candidates / np.linalg.norm(candidates, axis=1, keepdims=True)
    # Many candidates are equals: the earlier ones come first.
    expected = np.argsort(-np.round(features @ unit.T, 9), axis=1, kind="stable")[:, :6]
    np.testing.assert_array_equal(nearest(features, candidates, 6), expected)
