"""Modules built without memory, for tensors that are already known."""

import pytest
import torch
from torch import nn

from graft.backbones.backbone import build_backbone, untrained_backbone
from graft.backbones.from_tensors import from_tensors


# The second computes relative positions while it is built and keeps them outside its state.
@pytest.mark.parametrize(
    ("architecture", "size", "channels"),
    [("tf_efficientnet_lite0", 64, 3), ("swinv2_cr_tiny_224", 224, 3), ("resnet18", 64, 5)],
)
def test_a_backbone_from_tensors_is_that_of_the_usual_way(architecture: str, size: int, channels: int) -> None:
    original = build_backbone(architecture, "none", image_size=size, channels=channels, seed=3)
    spec, state = original.spec, original.state_dict()
    usual = untrained_backbone(spec)
    usual.load_state_dict(state)
    found = from_tensors(lambda: untrained_backbone(spec), state)
    assert not found.training
    assert [name for name, _ in found.named_parameters()] == [name for name, _ in usual.named_parameters()]
    assert all(parameter.requires_grad for parameter in found.parameters())
    for name, tensor in usual.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor)
    x = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for ours, theirs in zip(found.taps(x), usual.taps(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_no_random_number_is_drawn_and_no_memory_shared() -> None:
    before, weight = torch.get_rng_state(), torch.ones(2, 3)
    found = from_tensors(lambda: nn.Linear(3, 2), {"weight": weight, "bias": torch.zeros(2)})
    assert torch.equal(torch.get_rng_state(), before)
    weight[:] = 5
    assert torch.equal(found.weight, torch.ones(2, 3))


class Steps(nn.Module):
    """Reads a number from a tensor while it is built, as layers with stochastic depth do."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = torch.linspace(0, 1, 5)[1].item()
        self.layer = nn.Linear(2, 2)


def test_a_module_that_computes_while_it_is_built_is_built_the_usual_way() -> None:
    state = {"layer.weight": torch.eye(2), "layer.bias": torch.zeros(2)}
    found = from_tensors(Steps, state)
    assert found.rate == 0.25
    assert torch.equal(found.layer.weight, torch.eye(2))


def test_tensors_of_another_module_are_refused() -> None:
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        from_tensors(lambda: nn.Linear(3, 2), {"weight": torch.ones(2, 4), "bias": torch.zeros(2)})
