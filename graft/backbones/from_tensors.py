"""Building a module for tensors that are already known, without drawing random weights first."""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


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
