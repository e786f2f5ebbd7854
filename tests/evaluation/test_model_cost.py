"""Costs of a network whose arithmetic is known."""

import pytest
import torch
from torch import nn

from graft.evaluation.model_cost import cost


def test_a_convolution_and_a_linear_layer() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(8 * 16 * 16, 10))
    found = cost(module.eval(), torch.zeros(1, 3, 16, 16))
    assert found.parameters == 3 * 8 * 9 + 2048 * 10 + 10
    assert found.megaflops == pytest.approx(2 * (16 * 16 * 8 * 27 + 2048 * 10) / 1e6)
    assert found.megabytes == pytest.approx(4 * found.parameters / 1e6)
    assert 0 < found.milliseconds < 1000
