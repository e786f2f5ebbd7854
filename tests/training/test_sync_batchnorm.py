"""BatchNorm over all processes; here with one process, where it equals torch's. `test_distributed` trains with two."""

from collections.abc import Iterator

import pytest
import timm
import torch
import torch.distributed as dist
from torch import nn

from graft.training.sync_batchnorm import SharedNorms


@pytest.fixture
def one_process() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def _passed(norm: nn.Module, shared: bool, training: bool) -> list[torch.Tensor]:
    torch.manual_seed(0)
    norm.train(training)
    x = torch.randn(6, 4, 5, 3).requires_grad_()
    weights = torch.randn(6, 4, 5, 3)
    if shared:
        with SharedNorms():
            y = norm(x)
    else:
        y = norm(x)
    (y * weights).sum().backward()
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad for p in norm.parameters() if p.grad is not None), *norm.buffers()]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.BatchNorm2d(4),
        lambda: nn.BatchNorm2d(4, affine=False, momentum=0.3, eps=0.1),
        lambda: nn.BatchNorm2d(4, track_running_stats=False),
        lambda: timm.layers.BatchNormAct2d(4),  # its activation must not be lost
    ],
    ids=["plain", "no weights", "no statistics", "with activation"],
)
def test_it_equals_batch_norm(one_process: None, make, training: bool) -> None:
    pairs = zip(_passed(make(), True, training), _passed(make(), False, training), strict=True)
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_features_without_positions(one_process: None) -> None:
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    with SharedNorms():
        found = nn.BatchNorm1d(3)(x)
    torch.testing.assert_close(found, nn.BatchNorm1d(3)(x), rtol=1e-5, atol=1e-5)
