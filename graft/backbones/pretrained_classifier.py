"""SourceClassifier: the output layer of the pretrained weights, and the names of its outputs.

Next to the backbone, in the features artifact:

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

from graft.core.atomic import read_json_object, replacing, write_json
from graft.core.boundary import readable
from graft.core.errors import ModelError
from graft.core.tensors import read_arrays

SOURCE_FILE, SOURCE_TENSORS = "source.json", "source.safetensors"


@dataclass(frozen=True)
class SourceClassifier:
    """A linear layer on the pooled features of the complete backbone's last group."""

    names: tuple[tuple[str, ...], ...]
    """The names of every output; synonyms."""
    weight: npt.NDArray[np.float32]
    """(outputs, features)"""
    bias: npt.NDArray[np.float32]
    """(outputs,)"""

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """One name per output, with its number if several have the same name: `crane (134)`."""
        count = Counter(names[0] for names in self.names)
        return tuple(
            names[0] if count[names[0]] == 1 else f"{names[0]} ({output})" for output, names in enumerate(self.names)
        )

    def logits(self, features: npt.NDArray[np.floating], outputs: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return the logits of the given outputs for features (n, D) of the last group, (n, len(outputs))."""
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
        """Read it from `folder`.

        Raises:
            ModelError: if the backbone's source has no labels that can be used, with the reason.
        """
        if not (folder / SOURCE_FILE).is_file():
            raise ModelError(f"{folder}: no source classifier here ({SOURCE_FILE} is missing); extract again")
        content = read_json_object(folder / SOURCE_FILE, "reason", "names")
        if content["reason"]:
            raise ModelError(content["reason"])
        tensors = read_arrays(folder / SOURCE_TENSORS, "weight", "bias")
        with readable(folder / SOURCE_FILE, "run extract_features again", ModelError):
            return cls(tuple(map(tuple, content["names"])), tensors["weight"], tensors["bias"])


class ZeroShot(BaseModel):
    """The source's accuracy on the images of one split whose class it knows, before any training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: Literal["train", "val"]
    images: int
    accuracy: float
    low: float
    high: float
    """Its 95 % interval."""

    def describe(self) -> str:
        """Describe it in one phrase."""
        return (
            f"right on {self.accuracy:.3f} ({self.low:.3f} to {self.high:.3f}) of the {self.images:,} {self.split} "
            "images of these classes"
        )


@dataclass(frozen=True)
class NoSource:
    """Why there is no `SourceClassifier`."""

    reason: str

    def save(self, folder: Path) -> None:
        """Write the reason into `folder`, for the error message of `SourceClassifier.read`."""
        _write(folder, (), self.reason)


def describe_overlap(labels: Mapping[str, Sequence[str]], most: int = 12) -> str:
    """Describe which labels of a source match the classes: `ants as ant, bees as bee`."""
    pairs = [f"{name} as {' or '.join(matched)}" for name, matched in labels.items()]
    more = [f"and {len(pairs) - most} more"] if len(pairs) > most else []
    return ", ".join([*pairs[:most], *more])


def _write(folder: Path, names: Sequence[Sequence[str]], reason: str) -> None:
    write_json(folder / SOURCE_FILE, {"names": [list(synonyms) for synonyms in names], "reason": reason})
