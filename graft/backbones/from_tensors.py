"""Building a module for tensors that are known already, as those of a file, without drawing random weights first."""

from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import TypeVar

import safetensors.torch
import torch
from torch import nn

from graft.core.boundary import readable
from graft.core.checksums import check_file
from graft.core.errors import ModelError

M = TypeVar("M", bound=nn.Module)


def artifact_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file by name.

    Raises:
        ModelError: if it cannot be read, or has numbers that are not finite; a DamagedError if it differs from its
            checksum.
    """
    check_file(file)
    with readable(file, "train the model again, or restore it from the registry or a copy", ModelError):
        tensors: dict[str, torch.Tensor] = safetensors.torch.load_file(file)
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise ValueError(f"{name} has numbers that are not finite")
    return tensors


def from_tensors(make: Callable[[], M], tensors: Mapping[str, torch.Tensor]) -> M:
    """Return the module that `make` builds, with these tensors as its state.

    It is built on PyTorch's device `meta`, where a tensor has a shape but no memory and drawing random numbers costs
    nothing. A few modules compute something while they are built, or keep tensors outside their state (relative
    positions, for example); these are built the usual way.

    Args:
        make: builds the module; may be called twice.
        tensors: the module's complete state. They are copied: those of a file are mapped into memory at any offset,
            and the last digit of a matrix product may depend on it.

    Raises:
        RuntimeError: if the tensors do not fit.
    """
    state = {name: tensor.clone() for name, tensor in tensors.items()}
    module = _without_memory(make)
    if module is not None:
        module.load_state_dict(state, assign=True)
        if not any(tensor.is_meta for tensor in chain(module.parameters(), module.buffers())):
            return module
    module = make()
    module.load_state_dict(state)
    return module


def _without_memory(make: Callable[[], M]) -> M | None:
    try:
        with torch.device("meta"):
            return make()
    except (NotImplementedError, RuntimeError):  # it reads a number from one of its tensors
        return None
