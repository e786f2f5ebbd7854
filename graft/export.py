"""The model as one file without Python code: a `torch.export` program, with any number of images per batch.

What is exported takes uint8 pixels and normalises them itself, so that nobody who uses the file can get that wrong.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from graft.errors import ModelError
from graft.files import replacing
from graft.transform import Transform

PARITY = 1e-4
PARITY_BATCHES = (1, 2, 7, 64)


class PixelNetwork(nn.Module):
    """Pixels in, logits out: uint8 (B, 3, S, S) -> float32 (B, C)."""

    def __init__(self, network: nn.Module, transform: Transform) -> None:
        super().__init__()
        self.network = network
        self.transform = transform

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch of pixels."""
        logits: torch.Tensor = self.network(self.transform.normalise(pixels))
        return logits


def export_program(network: nn.Module, transform: Transform, path: Path) -> None:
    """Write the network behind its normalisation as a `torch.export` program that holds no pickle.

    Args:
        network: in eval mode; normalised float32 (B, 3, S, S) -> logits (B, C).
        transform: what the network was trained with.
        path: of the `.pt2` file.

    Raises:
        ModelError: if the network cannot be traced.
    """
    program = _traced(PixelNetwork(network, transform).eval(), transform.size)
    # The example would be kept as a pickle, and nobody needs it.
    program.example_inputs = None
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.export.save(program, file)


def largest_difference(one: nn.Module, other: nn.Module, size: int, batch: int, seed: int = 0) -> float:
    """Return by how much the outputs of two modules differ at most on the same random pixels."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        return float(np.abs(one(pixels).numpy() - other(pixels).numpy()).max())


def _traced(network: PixelNetwork, size: int) -> torch.export.ExportedProgram:
    # Of two images: an example of one would fix the batch at one.
    example = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    try:
        with torch.no_grad():
            return torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:
        raise ModelError(f"the network cannot be exported: {str(error).strip().splitlines()[0]}") from error
