"""Folding computes the same, and changes only what can be folded."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from graft.backbones.bn_folding import for_inference


def _randomised(module: nn.Module) -> nn.Module:
    """Statistics and affine parameters as after training: folding identity BatchNorms would prove nothing."""
    generator = torch.Generator().manual_seed(0)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            assert child.running_mean is not None
            assert child.running_var is not None
            size = child.running_mean.shape
            child.running_mean.copy_(torch.randn(size, generator=generator) * 0.1)
            child.running_var.copy_(torch.rand(size, generator=generator) + 0.5)
            child.weight.data.copy_(torch.rand(size, generator=generator) + 0.5)
            child.bias.data.copy_(torch.randn(size, generator=generator) * 0.1)
    return module.eval()


def _norms(module: nn.Module) -> int:
    return sum(isinstance(child, nn.BatchNorm2d) for child in module.modules())


def _probe(size: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("module", "size", "left"),
    [
        (lambda: torchvision.models.resnet18(), 64, 0),
        (lambda: torchvision.models.mobilenet_v3_small(), 64, 0),
        (lambda: timm.create_model("tf_efficientnet_lite0"), 64, 0),
        (lambda: timm.create_model("tf_efficientnet_lite0"), 75, 0),  # odd sizes pad in another way
        (lambda: timm.create_model("resnet10t"), 64, 0),
        # A DenseNet normalises concatenations too, which no single convolution makes.
        (lambda: torchvision.models.densenet121(), 64, 62),
    ],
    ids=["resnet18", "mobilenet_v3_small", "lite0", "lite0-odd", "timm-resnet", "densenet121"],
)
def test_folded_computes_the_same(module, size: int, left: int) -> None:
    torch.manual_seed(0)
    original = _randomised(module())
    before = {name: value.clone() for name, value in original.state_dict().items()}
    folded = for_inference(original, _probe(size))
    batch = _probe(size, batch=3) * 2
    with torch.inference_mode():
        expected, found = original(batch), folded(batch.contiguous(memory_format=torch.channels_last))
    assert _norms(folded) == left < _norms(original)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))
    assert all(torch.equal(before[name], value) for name, value in original.state_dict().items())


def test_no_dynamic_padding_is_left() -> None:
    folded = for_inference(timm.create_model("tf_efficientnet_lite0"), _probe(64))
    assert not [child for child in folded.modules() if type(child).__name__ == "Conv2dSame"]


@pytest.mark.parametrize("architecture", ["vit_tiny_patch16_224", "convnext_atto"])
def test_without_batchnorm_nothing_changes(architecture: str) -> None:
    torch.manual_seed(0)
    original = timm.create_model(architecture).eval()
    folded = for_inference(original, _probe(224, batch=1))
    assert folded.state_dict().keys() == original.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(folded.parameters(), original.parameters(), strict=True))
    assert not any(parameter.requires_grad for parameter in folded.parameters())


class _ReadTwice(nn.Module):
    """The convolution's output is also read past the BatchNorm: it must not be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv(x)
        return h + self.norm(h)


class _InPlaceBetween(nn.Module):
    """The tensor is the same object, its content is not: nothing to fold, and no warning."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.norm = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.act(self.conv(x)))


class _SharedConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.conv(self.first(self.conv(x))))


def test_falls_back_with_a_warning_if_it_would_compute_something_else() -> None:
    original = _randomised(_ReadTwice())
    with pytest.warns(UserWarning, match="BatchNorm is not folded, .* differ by"):
        folded = for_inference(original, _probe(16))
    assert torch.allclose(folded(_probe(16)), original(_probe(16)), atol=1e-5)


@pytest.mark.parametrize("module", [_InPlaceBetween, _SharedConv])
def test_leaves_alone_what_cannot_be_folded(module: type[nn.Module]) -> None:
    original = _randomised(module())
    folded = for_inference(original, _probe(16))
    assert _norms(folded) == _norms(original)
    assert torch.allclose(folded(_probe(16)), original(_probe(16)), atol=1e-5)


def test_folds_what_a_method_uses() -> None:
    class Taps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.Conv2d(3, 4, 3, bias=True), nn.BatchNorm2d(4), nn.ReLU())

        def taps(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [self.block(x).mean((2, 3))]

    original = _randomised(Taps())
    folded = for_inference(original, _probe(16), call=lambda module, batch: module.taps(batch))
    assert _norms(folded) == 0
    assert torch.allclose(folded.taps(_probe(16))[0], original.taps(_probe(16))[0], atol=1e-5)
