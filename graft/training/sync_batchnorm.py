"""BatchNorm over the images of all processes: its statistics are those of the entire batch, as with one process.

torch's SyncBatchNorm does this only on GPUs, and replaces modules: subclasses of BatchNorm, such as timm's with an
activation inside, lose what they add. Here the function that all of them call is overridden instead.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


class SharedNorms(TorchFunctionMode):
    """A context in which BatchNorm in training mode normalises with the mean and variance over all processes."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `batch_norm` instead of `F.batch_norm`."""
        return (batch_norm if func is F.batch_norm else func)(*args, **(kwargs or {}))


def batch_norm(
    x: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """Like `torch.nn.functional.batch_norm`, but with the statistics of all processes (Ioffe & Szegedy 2015).

    Args:
        x: float32 (b, C, ...), this process's images; b may differ from process to process.
        running_mean, running_var: float32 (C,), updated in place as by one process with all images.
        weight, bias: float32 (C,).
        training: False: normalise with the running statistics.
        momentum: how much the running statistics change.
        eps: added to the variance.
    """
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    dims = [0, *range(2, x.ndim)]
    shape = [1, -1] + [1] * (x.ndim - 2)
    count = _Sum.apply(torch.tensor(float(x.numel() // x.shape[1]), device=x.device))
    mean = _Sum.apply(x.sum(dims)) / count
    centred = x - mean.view(shape)
    variance = _Sum.apply((centred * centred).sum(dims)) / count
    with torch.no_grad():
        if running_mean is not None:
            running_mean.lerp_(mean, momentum)
        if running_var is not None:
            running_var.lerp_(variance * count / (count - 1), momentum)
    scale = torch.rsqrt(variance + eps)
    if weight is not None:
        scale = scale * weight
    normal: torch.Tensor = centred * scale.view(shape)
    return normal if bias is None else normal + bias.view(shape)


class _Sum(torch.autograd.Function):
    """Sum over the processes; the loss of each depends on the sum, so gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total
