"""A model's logits for the validation images from before it was refit on them: what it can no longer tell itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from graft.core.boundary import readable
from graft.core.errors import ModelError
from graft.core.tensors import read_arrays

VALIDATION_FILE = "validation.safetensors"


@dataclass(frozen=True)
class ValidationLogits:
    """Logits by the content id of the image, whatever order a dataset lists them in."""

    ids: npt.NDArray[np.bytes_]
    """(n,); copies of one file share an id."""
    logits: npt.NDArray[np.float32]
    """(n, C)."""

    @classmethod
    def of(cls, ids: Iterable[str], logits: npt.NDArray[np.float32]) -> "ValidationLogits":
        """Return the logits (n, C) of images with these ids."""
        return cls(np.array(list(ids), dtype=np.bytes_), logits)

    def aligned(self, ids: Iterable[str]) -> npt.NDArray[np.float32]:
        """Return the logits (n, C) in the order of `ids`.

        Raises:
            ModelError: if these are not the ids of the model's validation images.
        """
        asked = np.array(list(ids), dtype=np.bytes_)
        known_order, asked_order = np.argsort(self.ids, kind="stable"), np.argsort(asked, kind="stable")
        if not np.array_equal(self.ids[known_order], asked[asked_order]):
            raise ModelError(f"{VALIDATION_FILE}: of other images than the validation images of this dataset")
        rows = np.empty(len(asked), np.int64)
        rows[asked_order] = known_order
        found: npt.NDArray[np.float32] = self.logits[rows]
        return found

    def save(self, folder: Path) -> None:
        """Write `validation.safetensors` into a folder."""
        codes = self.ids.view(np.uint8).reshape(len(self.ids), self.ids.itemsize)
        tensors: dict[str, npt.NDArray[Any]] = {"ids": codes, "logits": np.ascontiguousarray(self.logits)}
        (folder / VALIDATION_FILE).write_bytes(safetensors.numpy.save(tensors))

    @classmethod
    def load(cls, folder: Path) -> "ValidationLogits | None":
        """Read what `save` wrote; None if there is no such file.

        Raises:
            ModelError: if the file has no ids, as in bundles of earlier versions.
        """
        file = folder / VALIDATION_FILE
        if not file.is_file():
            return None
        tensors = read_arrays(file, "logits")
        if "ids" not in tensors:
            raise ModelError(f"{file}: without the ids of its images; train the model again")
        with readable(file, "train the model again", ModelError):
            codes = tensors["ids"]
            return cls(codes.view(f"S{codes.shape[1]}")[:, 0], tensors["logits"])
