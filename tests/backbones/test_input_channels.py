"""A network for RGB takes other channels: equal channels give the same result as grey, for every stem."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from graft.backbones.backbone import Backbone, build_backbone, load_backbone, save_backbone
from graft.backbones.input_channels import ChannelMap, Stem, inflate_filters, inflate_stem, mixture, per_channel
from graft.backbones.weights import create
from graft.core.errors import ModelError
from graft.imaging.transform import Transform

STEMS: tuple[Stem, ...] = ("inflate", "repeat", "average")
SIZES = {
    "resnet18": 32,
    "mobilenet_v3_small": 32,
    "tf_efficientnet_lite0": 32,
    "repvgg_a0": 32,  # two convolutions look at the image
    "vit_tiny_patch16_224": 224,
}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory):
    """Build a backbone on a file of weights, the same for every number of channels."""
    folder = tmp_path_factory.mktemp("weights")

    def make(name: str, **how: object) -> Backbone:
        file = folder / f"{name}.safetensors"
        if not file.exists():
            state = create(name, "none", seed=1)[0].state_dict()
            safetensors.torch.save_file({key: tensor.contiguous() for key, tensor in state.items()}, file)
        return build_backbone(name, str(file), image_size=SIZES[name], **how)  # type: ignore[arg-type]

    return make


def first_conv(backbone: Backbone) -> nn.Conv2d:
    return next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize("name", SIZES)
def test_equal_channels_give_the_result_of_grey(pretrained, name: str) -> None:
    size = SIZES[name]
    grey = torch.randn(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = pretrained(name).taps(grey.expand(-1, 3, -1, -1))
        for channels, stem in (
            (1, "inflate"),
            (1, "repeat"),
            (4, "inflate"),
            (6, "inflate"),
            (2, "repeat"),
            (5, "average"),
        ):
            backbone = pretrained(name, channels=channels, stem=stem)
            for tap, right in zip(backbone.taps(grey.expand(-1, channels, -1, -1)), expected, strict=True):
                torch.testing.assert_close(tap, right, rtol=1e-4, atol=1e-5 * float(right.abs().max()))


def test_four_channels_keep_the_filters_of_rgb(pretrained) -> None:
    usual, four = pretrained("resnet18"), pretrained("resnet18", channels=4)
    weight, new = first_conv(usual).weight, first_conv(four).weight
    torch.testing.assert_close(new[:, :3], weight * 0.75)
    torch.testing.assert_close(new[:, 3], weight.mean(1) * 0.75)
    x = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        # Without the fourth filter and the factor it is the network for RGB.
        new[:, 3] = 0
        new[:, :3] *= 4 / 3
        torch.testing.assert_close(four(x), usual(x[:, :3]), rtol=1e-4, atol=1e-5)


def test_the_fixed_mixtures(pretrained) -> None:
    x = torch.randn(2, 5, 32, 32, generator=torch.Generator().manual_seed(0))
    dealt = torch.stack([x[:, [0, 3]].mean(1), x[:, [1, 4]].mean(1), x[:, 2]], dim=1)
    usual = pretrained("resnet18")
    with torch.inference_mode():
        torch.testing.assert_close(ChannelMap(5, "repeat")(x), dealt)
        repeat, average = (pretrained("resnet18", channels=5, stem=stem) for stem in ("repeat", "average"))
        torch.testing.assert_close(repeat(x), usual(dealt))
        torch.testing.assert_close(average(x), usual(x.mean(1, keepdim=True).expand(-1, 3, -1, -1)))
    assert mixture(2, "repeat").tolist() == [[1, 0], [0, 1], [1, 0]]
    for backbone in (repeat, average):
        assert sum(p.numel() for p in backbone.parameters()) == sum(p.numel() for p in usual.parameters())


@given(st.integers(1, 40), st.sampled_from(["repeat", "average"]))
def test_mixtures_add_up_to_one(channels: int, stem: Stem) -> None:
    found = mixture(channels, stem)
    assert found.shape == (3, channels)
    torch.testing.assert_close(found.sum(1), torch.ones(3))
    assert bool((found.sum(0) > 0).all())  # no channel is left out


@given(st.integers(1, 40))
def test_the_sum_of_filters_does_not_change(channels: int) -> None:
    weight = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    found = inflate_filters(weight, channels)
    assert found.shape == (8, channels, 2, 2)
    torch.testing.assert_close(found.sum(1), weight.sum(1), rtol=1e-4, atol=1e-5)


def test_the_stem_is_in_the_first_group_and_can_be_trained(pretrained) -> None:
    backbone = pretrained("resnet18", channels=6)
    assert backbone.spec.groups[0] == "stem"
    weight = next(p for p in backbone.groups[0].parameters() if p.shape[1:2] == (6,))
    backbone(torch.randn(2, 6, 32, 32)).square().sum().backward()
    assert weight.grad is not None
    assert float(weight.grad.abs().sum()) > 0


@pytest.mark.parametrize("stem", STEMS)
def test_to_disk_and_back(pretrained, stem: Stem, tmp_path: Path) -> None:
    backbone = pretrained("mobilenet_v3_small", channels=5, stem=stem).truncated("features.3")
    save_backbone(backbone, tmp_path)
    loaded = load_backbone(tmp_path)
    assert loaded.spec == backbone.spec
    assert loaded.fingerprint() == backbone.fingerprint()
    x = torch.randn(1, 5, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x), backbone(x), rtol=0, atol=0)


def test_every_stem_has_its_own_fingerprint(pretrained) -> None:
    prints = {pretrained("resnet18", channels=6, stem=stem).fingerprint() for stem in STEMS}
    assert len(prints | {pretrained("resnet18").fingerprint()}) == 4
    # For RGB there is nothing to do.
    assert len({pretrained("resnet18", stem=stem).fingerprint() for stem in STEMS}) == 1


def test_random_weights_get_random_filters() -> None:
    weight = first_conv(build_backbone("resnet18", "none", image_size=32, channels=6, seed=3)).weight.detach()
    usual = first_conv(build_backbone("resnet18", "none", image_size=32, seed=3)).weight.detach()
    assert weight.shape == (64, 6, 7, 7)
    assert not torch.equal(weight[:, 0], weight[:, 1])
    assert float(weight.std()) == pytest.approx(float(usual.std()) * 0.5**0.5, rel=0.05)
    assert torch.equal(weight, first_conv(build_backbone("resnet18", "none", image_size=32, channels=6, seed=3)).weight)


def test_mean_and_std_are_averaged_or_given() -> None:
    assert per_channel((0.2, 0.3, 0.7), 1) == pytest.approx((0.4,))
    assert per_channel((0.2, 0.3, 0.7), 4) == pytest.approx((0.2, 0.3, 0.7, 0.4))
    assert per_channel((0.2, 0.3, 0.7), 6) == pytest.approx((0.4,) * 6)
    transform = build_backbone("resnet18", "none", image_size=32, channels=2).spec.transform
    assert transform.mean == pytest.approx((0.449,) * 2)
    two = build_backbone("resnet18", "none", image_size=32, channels=2, mean=(0.1, 0.2), std=(0.3, 0.4)).spec.transform
    assert two == Transform(size=32, crop_fraction=transform.crop_fraction, channels=2, mean=(0.1, 0.2), std=(0.3, 0.4))
    with pytest.raises(ModelError, match=r"extract_features.mean=\[0.5, 0.5, 0.5\]: expected 2 numbers, one per"):
        build_backbone("resnet18", "none", image_size=32, channels=2, mean=(0.5,) * 3)


def test_the_error_for_a_stem_that_cannot_be_inflated_names_alternatives() -> None:
    line = (
        r"^extract_features.stem='inflate': nf_regnet_b0 does not begin with a plain convolution over RGB; use repeat"
    )
    with pytest.raises(ModelError, match=line):
        build_backbone("nf_regnet_b0", "none", image_size=32, channels=4)
    assert (
        build_backbone("nf_regnet_b0", "none", image_size=32, channels=4, stem="average").spec.transform.channels == 4
    )
    with pytest.raises(ModelError, match=r"^extract_features.stem='inflate': linear does not begin"):
        inflate_stem(nn.Linear(3, 3), 4, "linear")
    inner = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 8, 1))
    inflate_stem(inner, 4, "two in a row")  # which of them sees the image shows when it is built
