"""Depthwise convolutions on maps smaller than their kernel: another path, the same numbers."""

import copy

import pytest
import torch
from torch import nn

from graft.training.small_maps import PaddedFirst, pad_small_maps_first


@pytest.mark.parametrize("size", [(3, 3), (2, 5), (5, 2), (1, 1), (5, 5), (7, 6)])
@pytest.mark.parametrize(("stride", "dilation", "padding"), [(1, 1, 2), (2, 1, (2, 3)), (1, 2, 4)])
def test_answers_and_gradients_are_those_of_the_convolution(
    size: tuple[int, int], stride: int, dilation: int, padding: int | tuple[int, int]
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 12, 5, stride, padding, dilation, groups=6)
    network = nn.Sequential(copy.deepcopy(plain))
    pad_small_maps_first(network)
    assert type(network[0]) is PaddedFirst
    images = torch.randn(3, 6, *size)
    found = []
    for module in (plain, network):
        x = images.clone().requires_grad_()
        answer = module(x)
        answer.square().sum().backward()
        found.append((answer.detach(), x.grad, *(parameter.grad for parameter in module.parameters())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert network.state_dict().keys() == {"0.weight", "0.bias"}


def test_other_convolutions_are_left_alone() -> None:
    network = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same", groups=4),
        nn.Conv2d(1, 4, 3, padding=1),
    )
    pad_small_maps_first(network)
    assert {type(module) for module in network} == {nn.Conv2d}
