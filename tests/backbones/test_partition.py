"""Every architecture becomes an ordered chain of groups that computes what the network does."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from graft.backbones.backbone import _remove_classifier
from graft.backbones.partition import cut_into_groups, pool
from graft.core.errors import ModelError

# RegNet reads its own weights while it is built, so it needs real ones; the small variants stand for the family.
REGNETS = ("regnet_x_400mf", "regnet_y_400mf")
REPRESENTATIVE = {
    "torchvision": [
        "convnext_tiny",
        "densenet121",
        "efficientnet_b0",
        "googlenet",
        "mobilenet_v3_small",
        "regnet_y_400mf",
        "resnet18",
        "vit_b_32",
    ],
    "timm": [
        "convnextv2_atto",
        "mixer_b16_224",
        "mobilenetv4_conv_small",
        "swin_tiny_patch4_window7_224",
        "tf_efficientnet_lite0",
        "vit_small_patch14_dinov2",
        "vit_small_patch16_dinov3",
        "vit_base_patch16_siglip_224",
        "vit_base_patch32_clip_224",
    ],
}
"""Tested in every run; the others are slow because they are many."""
TORCHVISION = [
    name
    for name in torchvision.models.list_models(module=torchvision.models)
    if not name.startswith("regnet") or name in REGNETS
]
TIMM = [
    *REPRESENTATIVE["timm"],
    "resnet18",
    "convnext_tiny",
    "vit_tiny_patch16_224",
    "deit_tiny_patch16_224",
    "regnety_002",
    "mobilenetv3_small_100",
    "densenet121",
    "vgg16",
    "resnetv2_50",
    "vit_base_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_base_patch16_siglip_gap_224",
    "eva02_base_patch16_clip_224",
    "resnet50_clip",
    "efficientformer_l1",
    "pvt_v2_b0",
    "coatnet_0_rw_224",
    "fastvit_t8",
    "caformer_s18",
]


def _of(library: str, names: list[str]) -> list[object]:
    slow = pytest.mark.slow
    return [name if name in REPRESENTATIVE[library] else pytest.param(name, marks=slow) for name in names]


def _torchvision(name: str) -> nn.Module:
    options = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("cpu" if name in REGNETS else "meta"):
        return torchvision.models.get_model(name, **options).eval()


@pytest.mark.parametrize("name", _of("torchvision", TORCHVISION))
def test_every_torchvision_architecture(name: str) -> None:
    model = _torchvision(name)
    _remove_classifier(model)
    _check(model, 299 if name == "inception_v3" else 224)


@pytest.mark.parametrize("name", _of("timm", TIMM))
def test_families_of_timm(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0).eval()
    _check(model, model.pretrained_cfg["input_size"][-1])


def _check(model: nn.Module, size: int) -> None:
    groups = cut_into_groups(model)
    assert len(groups) >= 4
    assert len({group.name for group in groups}) == len(groups)
    owners = [id(parameter) for group in groups for parameter in group.module.parameters()]
    assert sorted(owners) == sorted(id(parameter) for parameter in model.parameters())
    x = torch.zeros(2, 3, size, size, device=next(model.parameters()).device)
    for group in groups:
        x = group.module(x)
    assert x.flatten(1).shape[0] == 2
    assert pool(x, channels_last=False).ndim == 2


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vit_b_32", "swin_t", "densenet121"])
def test_the_chain_computes_what_the_network_does(name: str) -> None:
    torch.manual_seed(0)
    model = torchvision.models.get_model(name).eval()
    _remove_classifier(model)
    x = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        expected = model(x)
        for group in cut_into_groups(model):
            x = group.module(x)
    torch.testing.assert_close(x, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "size"),
    [("vit_small_patch16_dinov3", 64), ("vit_small_patch14_dinov2", 56), ("vit_base_patch16_siglip_224", 64)],
)
def test_a_small_vision_transformer_of_today_is_a_chain_that_computes_the_same(name: str, size: int) -> None:
    torch.manual_seed(0)
    options = {"depth": 3, "embed_dim": 48, "num_heads": 2, "img_size": size}
    model = timm.create_model(name, num_classes=0, **options).eval()
    x = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        expected = model(x)
        groups = cut_into_groups(model, size)
        for group in groups:
            x = group.module(x)
    assert [group.name for group in groups] == ["stem", "blocks.0", "blocks.1", "blocks.2", "neck"]
    torch.testing.assert_close(x, expected)


def test_names_are_the_authors_own() -> None:
    model = torchvision.models.resnet18()
    _remove_classifier(model)
    assert [group.name for group in cut_into_groups(model)] == ["stem", "layer1", "layer2", "layer3", "layer4"]


def test_a_network_without_known_layers_is_refused() -> None:
    with pytest.raises(ModelError, match="no ordered groups known for this architecture"):
        cut_into_groups(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)))


class _Unused(nn.Module):
    """A parameter that no forward pass uses belongs to no group."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, 3, 1))
        self.spare = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer1(x)


def test_a_parameter_in_no_group_is_refused() -> None:
    with pytest.raises(ModelError, match=r"parameter spare is in groups \[\], expected one"):
        cut_into_groups(_Unused())


@pytest.mark.parametrize(
    ("shape", "channels_last"), [((2, 5, 3, 3), False), ((2, 3, 3, 5), True), ((2, 9, 5), False), ((2, 5), False)]
)
def test_pooling_leaves_one_number_per_channel(shape: tuple[int, ...], channels_last: bool) -> None:
    pooled = pool(torch.full(shape, 2.0), channels_last)
    assert pooled.shape == (2, 5)
    assert bool((pooled == 2).all())
