"""SourceClassifier: the output layer that the weights came with, and what its outputs are called.

Beside the backbone, in the features artifact:

- `source.json`: the names of every output, or why there are none;
- `source.safetensors`: weight and bias of the layer, float32.

Nothing here needs torch.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from pydantic import BaseModel, ConfigDict

from graft.core.atomic import read_json, replacing, write_json
from graft.core.errors import ModelError

SOURCE_FILE, SOURCE_TENSORS = "source.json", "source.safetensors"


@dataclass(frozen=True)
class SourceClassifier:
    """A linear layer on the pooled features of the whole backbone's last group."""

    names: tuple[tuple[str, ...], ...]
    """Of every output, the synonyms that are its name."""
    weight: npt.NDArray[np.float32]
    """(outputs, features)"""
    bias: npt.NDArray[np.float32]
    """(outputs,)"""

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """One name per output, with its number where others have the same: `crane (134)`."""
        count = Counter(names[0] for names in self.names)
        return tuple(
            names[0] if count[names[0]] == 1 else f"{names[0]} ({output})" for output, names in enumerate(self.names)
        )

    def logits(self, features: npt.NDArray[np.floating], outputs: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return what some outputs say of features (n, D) of the last group, (n, len(outputs))."""
        rows = list(outputs)
        return np.asarray(features @ self.weight[rows].T + self.bias[rows], dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write both files into `folder`, which exists."""
        _write(folder, self.names, "")
        tensors = {"weight": np.ascontiguousarray(self.weight), "bias": np.ascontiguousarray(self.bias)}
        with replacing(folder / SOURCE_TENSORS) as temporary:
            temporary.write_bytes(safetensors.numpy.save(tensors))

    @classmethod
    def read(cls, folder: Path) -> "SourceClassifier":
        """Read what is in `folder`.

        Raises:
            ModelError: if the backbone's source has no labels that can be used, with the reason.
        """
        if not (folder / SOURCE_FILE).is_file():
            raise ModelError(f"{folder}: no source classifier here ({SOURCE_FILE} is missing); extract again")
        content = read_json(folder / SOURCE_FILE)
        if content["reason"]:
            raise ModelError(content["reason"])
        tensors = safetensors.numpy.load_file(folder / SOURCE_TENSORS)
        return cls(tuple(map(tuple, content["names"])), tensors["weight"], tensors["bias"])


class ZeroShot(BaseModel):
    """How often a source names the images of one split right whose class it knows, before anything is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: Literal["train", "val"]
    images: int
    accuracy: float
    low: float
    high: float
    """Its 95 % interval."""

    def told(self) -> str:
        """Return it as text."""
        return (
            f"right on {self.accuracy:.3f} ({self.low:.3f} to {self.high:.3f}) of the {self.images:,} {self.split} "
            "images of these classes"
        )


@dataclass(frozen=True)
class NoSource:
    """Why there is no `SourceClassifier`."""

    reason: str

    def save(self, folder: Path) -> None:
        """Write the reason into `folder`, where `SourceClassifier.read` tells it."""
        _write(folder, (), self.reason)


def known_as(labels: Mapping[str, Sequence[str]], most: int = 12) -> str:
    """Return which labels of a source the classes are, as text: `ants as ant, bees as bee`."""
    told = [f"{name} as {' or '.join(some)}" for name, some in labels.items()]
    more = [f"and {len(told) - most} more"] if len(told) > most else []
    return ", ".join([*told[:most], *more])


def _write(folder: Path, names: Sequence[Sequence[str]], reason: str) -> None:
    write_json(folder / SOURCE_FILE, {"names": [list(some) for some in names], "reason": reason})
