"""A backbone: taps, boundaries, truncation, saving and loading."""

from pathlib import Path

import pytest
import torch

from graft.backbones.backbone import Backbone, build_backbone, load_backbone, save_backbone
from graft.core.errors import ModelError


@pytest.fixture(scope="module")
def lite0() -> Backbone:
    return build_backbone("tf_efficientnet_lite0", image_size=64)


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_spec_describes_the_backbone(lite0: Backbone) -> None:
    assert lite0.spec.groups == ("stem", *(f"blocks.{i}" for i in range(7)), "neck")
    assert lite0.spec.widths == (32, 16, 24, 40, 80, 112, 192, 320, 1280)
    assert lite0.spec.depth == "neck"
    assert lite0.spec.transform.size == 64
    assert not lite0.training


def test_taps_are_the_features_of_every_truncation(lite0: Backbone, x: torch.Tensor) -> None:
    with torch.inference_mode():
        taps = lite0.taps(x)
        assert [tap.shape[1] for tap in taps] == list(lite0.spec.widths)
        for name, tap in zip(lite0.spec.groups, taps, strict=True):
            torch.testing.assert_close(lite0.truncated(name)(x), tap, rtol=0, atol=0)
        torch.testing.assert_close(lite0(x), taps[-1], rtol=0, atol=0)


@pytest.mark.parametrize("group", ["stem", "blocks.4", "blocks.6"])
def test_suffix_after_prefix_is_the_complete_backbone(lite0: Backbone, x: torch.Tensor, group: str) -> None:
    with torch.inference_mode():
        whole = lite0.suffix(lite0.prefix(x, group), group)
        torch.testing.assert_close(lite0.pooled(whole), lite0(x), rtol=0, atol=0)


@pytest.mark.parametrize("depth", ["neck", "blocks.3"])
def test_round_trip(lite0: Backbone, x: torch.Tensor, tmp_path: Path, depth: str) -> None:
    saved = lite0.truncated(depth)
    save_backbone(saved, tmp_path)
    loaded = load_backbone(tmp_path)
    assert loaded.spec == saved.spec
    assert loaded.fingerprint() == saved.fingerprint()
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x), saved(x), rtol=0, atol=0)


def test_fingerprint_sees_weights_depth_and_transform(lite0: Backbone) -> None:
    prints = {
        lite0.fingerprint(),
        lite0.truncated("blocks.6").fingerprint(),
        build_backbone("tf_efficientnet_lite0", image_size=96).fingerprint(),
        build_backbone("tf_efficientnet_lite0", "none", image_size=64).fingerprint(),
    }
    assert len(prints) == 4


def test_tensors_of_another_backbone(lite0: Backbone, tmp_path: Path) -> None:
    save_backbone(lite0, tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    save_backbone(lite0.truncated("blocks.2"), other)
    (other / "backbone.safetensors").replace(tmp_path / "backbone.safetensors")
    with pytest.raises(ModelError, match=r"the tensors do not belong to its backbone.json"):
        load_backbone(tmp_path)


def test_clear_errors(lite0: Backbone) -> None:
    with pytest.raises(
        ModelError, match=r"'blocks.9' is not a group of tf_efficientnet_lite0; its groups are stem, blocks.0"
    ):
        lite0.truncated("blocks.9")
    with pytest.raises(ModelError, match=r"image_size=96: vit_b_32 takes only 224 pixels"):
        build_backbone("vit_b_32", "none", image_size=96)
    with pytest.raises(ModelError, match=r"image_size=32: inception_v3 cannot take it"):
        build_backbone("inception_v3", "none", image_size=32)


@pytest.mark.parametrize("name", ["swin_t", "vit_b_32", "squeezenet1_1"])
def test_layouts_other_than_channels_first(name: str) -> None:
    backbone = build_backbone(name, "none")
    size = backbone.spec.transform.size
    with torch.inference_mode():
        taps = backbone.taps(torch.zeros(2, 3, size, size))
    assert [tuple(tap.shape) for tap in taps] == [(2, width) for width in backbone.spec.widths]
    assert backbone.spec.channels_last == (name == "swin_t")


@pytest.mark.parametrize(("name", "size"), [("vit_tiny_patch16_dinov3_qkvb", 64), ("vit_tiny_patch16_224", 96)])
def test_positions_of_a_vision_transformer_follow_the_size_of_the_images(name: str, size: int, tmp_path: Path) -> None:
    backbone = build_backbone(name, "none", image_size=size)
    assert backbone.spec.groups == ("stem", *(f"blocks.{number}" for number in range(12)), "neck")
    save_backbone(backbone, tmp_path)
    loaded = load_backbone(tmp_path)
    assert loaded.fingerprint() == backbone.fingerprint()
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x), backbone(x), rtol=0, atol=0)


def test_weights_from_another_framework(shared: Path) -> None:
    half = (0.5, 0.5, 0.5)
    backbone = build_backbone(
        "mobilenet_v2", str(shared / "weights" / "mobilenet_v2_imagenet.pth"), mean=half, std=half
    )
    assert backbone.spec.transform.mean == half
    assert backbone.spec.weights.sha256 == "9e0f2cadbb6f296682d447a04c3a7583ee1c4caaebcadf8a2130f898de4e9836"
    image = next((shared / "data" / "hymenoptera" / "val" / "ants").glob("*.jpg"))
    pixels = backbone.spec.transform.normalise(backbone.spec.transform.pixels(image.read_bytes())[None])
    with torch.inference_mode():
        features = backbone(pixels)
    assert features.shape == (1, 1280)
    assert bool(torch.isfinite(features).all())
