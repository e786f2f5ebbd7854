"""Make a frozen module fast: BatchNorm folded into the convolutions before it, static padding, channels_last.

In eval mode BatchNorm is an affine map per channel, so it can be multiplied into the weights of the convolution that
feeds it (Jacob et al. 2018, section 3.2). Which convolution feeds which BatchNorm is observed during the forward pass
of a probe batch, not guessed from names, so it works for both torchvision's and timm's modules. The result is checked
on the probe batch.
"""

import copy
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import nn

M = TypeVar("M", bound=nn.Module)
Call = Callable[[Any, torch.Tensor], torch.Tensor | Sequence[torch.Tensor]]
TOLERANCE = 1e-3
"""Largest difference accepted, in units of the output's own standard deviation (rounding gives about 1e-6)."""


def for_inference(module: M, probe: torch.Tensor, call: Call | None = None) -> M:
    """Return a faster copy of `module` in eval mode that computes the same for inputs of the size of `probe`.

    The copy is meant for `inference_mode`: its parameters take no gradients. Padding of TF-style convolutions becomes
    fixed, so input sizes other than that of `probe` give wrong results. A module without BatchNorm after a convolution
    keeps its parameters.

    Args:
        module: any module; it is not changed.
        probe: a batch, float32 (B, C, H, W).
        call: how the module is used, `call(module, batch)`; by default `module(batch)`.

    Returns:
        The copy. If its outputs differ by more than `TOLERANCE`, it warns, and the copy is only put into eval mode and
        channels_last.
    """
    call = call or (lambda chosen, batch: chosen(batch))
    plain = copy.deepcopy(module).eval().requires_grad_(False)
    with torch.no_grad():
        trace, expected = _observe(plain, probe, call)
        folded = copy.deepcopy(plain)
        for conv, norm in trace.pairs:
            _fold_pair(folded, conv, norm)
        for conv, (height, width) in trace.same_padded.items():
            _replace(folded, conv, _static_padding(folded.get_submodule(conv), height, width))
        folded = folded.to(memory_format=torch.channels_last)
        try:
            found = _outputs(call(folded, probe.contiguous(memory_format=torch.channels_last)))
            error = max((_distance(a, b) for a, b in zip(expected, found, strict=True)), default=0.0)
        except (AttributeError, RuntimeError, ValueError) as fault:
            return _unfolded(plain, f"{type(fault).__name__}: {fault}")
    if not error <= TOLERANCE:
        return _unfolded(plain, f"outputs differ by {error:.2g} standard deviations")
    return folded


@dataclass(frozen=True)
class _Trace:
    pairs: list[tuple[str, str]]
    """(convolution, BatchNorm that alone reads it), by name."""
    same_padded: dict[str, tuple[int, int]]
    """TF-style convolution -> height and width of its input."""


def _observe(module: nn.Module, probe: torch.Tensor, call: Call) -> tuple[_Trace, list[torch.Tensor]]:
    written: dict[int, tuple[str, torch.Tensor, int]] = {}
    calls: Counter[str] = Counter()
    pairs: list[tuple[str, str]] = []
    sizes: dict[str, set[tuple[int, int]]] = {}

    def after_conv(name: str, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        calls[name] += 1
        sizes.setdefault(name, set()).add((inputs[0].shape[-2], inputs[0].shape[-1]))
        # Keeping the tensor keeps its id unique; the version shows whether it was changed in place since.
        written[id(output)] = (name, output, output._version)

    def before_norm(name: str, inputs: tuple[torch.Tensor, ...]) -> None:
        calls[name] += 1
        conv, tensor, version = written.get(id(inputs[0]), ("", None, 0))
        if tensor is inputs[0] and tensor._version == version:
            pairs.append((conv, name))

    with ExitStack() as hooks:
        for name, child in module.named_modules():
            if _is_plain_conv(child) or _is_same_conv(child):
                handle = child.register_forward_hook(lambda _, i, o, name=name: after_conv(name, i, o))
                hooks.callback(handle.remove)
            elif isinstance(child, nn.BatchNorm2d) and child.running_mean is not None:
                handle = child.register_forward_pre_hook(lambda _, i, name=name: before_norm(name, i))
                hooks.callback(handle.remove)
        outputs = _outputs(call(module, probe))
    # A module that is used twice is not folded.
    once = [(conv, norm) for conv, norm in pairs if calls[conv] == calls[norm] == 1]
    same = {n: s.pop() for n, s in sizes.items() if len(s) == 1 and _is_same_conv(module.get_submodule(n))}
    return _Trace(once, same), outputs


def _is_plain_conv(module: nn.Module) -> bool:
    # A subclass with its own forward (weight standardisation, ...) may use its weight in another way.
    return isinstance(module, nn.Conv2d) and type(module).forward is nn.Conv2d.forward


def _is_same_conv(module: nn.Module) -> bool:
    # timm's Conv2dSame, recognised by name so that torchvision's backbones do not need to import timm.
    return isinstance(module, nn.Conv2d) and type(module).__name__ == "Conv2dSame"


def _fold_pair(root: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = root.get_submodule(conv_name), root.get_submodule(norm_name)
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    # In float64: the rounding errors of three float32 products would add up in deep networks.
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    bias = -norm.running_mean.double() * scale
    if norm.bias is not None:
        bias = bias + norm.bias.double()
    if conv.bias is not None:
        bias = bias + conv.bias.double() * scale
    weight = conv.weight.double() * scale.view(-1, 1, 1, 1)
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)
    # timm's BatchNormAct2d contains the activation (and dropout, inactive here) that follows; BatchNorm2d has none.
    activation = getattr(norm, "act", None)
    _replace(root, norm_name, activation if isinstance(activation, nn.Module) else nn.Identity())


def _static_padding(conv: nn.Module, height: int, width: int) -> nn.Module:
    """Return a convolution with the padding that TensorFlow's SAME rule gives for this input size."""
    assert isinstance(conv, nn.Conv2d)
    (top, bottom), (left, right) = (
        _same(size, conv.kernel_size[axis], conv.stride[axis], conv.dilation[axis])
        for axis, size in enumerate((height, width))
    )
    weight: torch.Tensor = conv.weight
    if (top, left) == (bottom, right):
        return _conv_like(conv, weight, (top, left))
    if conv.groups == conv.in_channels and conv.dilation == (1, 1):
        # Symmetric padding with a kernel that starts with zeros reads the same pixels. For a depthwise convolution that
        # is faster than the copy made by padding beforehand.
        weight = nn.Parameter(F.pad(weight, (right - left, 0, bottom - top, 0)), requires_grad=False)
        return _conv_like(conv, weight, (bottom, right))
    return nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), _conv_like(conv, weight, (0, 0)))


def _conv_like(conv: nn.Conv2d, weight: torch.Tensor, padding: tuple[int, int]) -> nn.Conv2d:
    made = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        (weight.shape[2], weight.shape[3]),
        conv.stride,  # type: ignore[arg-type]
        padding,
        conv.dilation,  # type: ignore[arg-type]
        conv.groups,
        bias=conv.bias is not None,
        device="meta",
    )
    made.weight, made.bias = weight, conv.bias
    return made.eval()


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def _replace(root: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent), leaf, new)


def _outputs(value: torch.Tensor | Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [value] if isinstance(value, torch.Tensor) else list(value)


def _distance(expected: torch.Tensor, found: torch.Tensor) -> float:
    if not expected.isfinite().all():
        return 0.0  # broken weights: there is nothing to compare, and the user of the outputs reports them
    spread = expected.std().clamp_min(1e-12) if expected.numel() > 1 else expected.abs().clamp_min(1e-12)
    return float((expected - found).abs().max() / spread)


def _unfolded(plain: M, why: str) -> M:
    warnings.warn(f"BatchNorm is not folded, so features take longer: {why}", stacklevel=3)
    return plain.to(memory_format=torch.channels_last)
