"""Which maps a backbone gives at which resolution."""

import pytest
import torch

from graft.backbones.backbone import build_backbone
from graft.dense.levels import Trunk, find_levels


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", (64, 128, 256, 512)),  # its last group ends with the pooling
        ("resnet18.a1_in1k", (64, 128, 256, 512)),
        ("mobilenet_v3_small", (16, 24, 48, 576)),
        ("tf_efficientnet_lite0", (24, 40, 112, 320)),
    ],
)
def test_the_last_map_of_each_resolution_is_found(name: str, channels: tuple[int, ...]) -> None:
    backbone = build_backbone(name, "none", image_size=64)
    levels = find_levels(backbone)
    assert [level.side for level in levels] == [16, 8, 4, 2]
    assert tuple(level.channels for level in levels) == channels
    trunk, pixels = Trunk(backbone, tuple(level.group for level in levels)).eval(), torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        maps = trunk(pixels)
        if name == "resnet18":
            assert torch.allclose(maps[-1].mean((2, 3)), backbone(pixels), atol=1e-5)
    assert [tuple(found.shape[1:]) for found in maps] == [(level.channels, level.side, level.side) for level in levels]
