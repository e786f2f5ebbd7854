"""BatchNorm over the images of all processes: the statistics are those of the whole batch, as if one process had it.

torch's SyncBatchNorm does this on GPUs only, and takes the place of modules; classes derived from BatchNorm, such as
timm's with an activation inside, lose what they add. Here the function that they all call is answered differently.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


class SharedNorms(TorchFunctionMode):
    """While entered, BatchNorm in training mode normalises with the mean and variance over all processes."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Answer `F.batch_norm` with `batch_norm`."""
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
    """Return what `torch.nn.functional.batch_norm` does, with the statistics of all processes (Ioffe & Szegedy 2015).

    Args:
        x: float32 (b, C, ...), this process's images; b may differ from process to process.
        running_mean, running_var: float32 (C,), moved in place as they would be by one process with all images.
        weight, bias: float32 (C,).
        training: False: normalise with the running statistics.
        momentum: how far the running statistics move.
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
    """Add up over the processes; each one's loss depends on the sum, so gradients add up too."""

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
