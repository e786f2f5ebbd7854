"""A sample of the training images' features, kept with the model: what new images are compared with to notice a shift.

Moments alone cannot tell whether two sets of images look alike; a classifier that separates them can. The sample holds
no image, but features tell something about the images they were computed from (see docs/adaptation.md).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from graft.core.atomic import replacing
from graft.core.errors import ModelError
from graft.core.row_blocks import Array32, MappedRows
from graft.core.tensors import read_arrays
from graft.heads.protocols import Ints
from graft.stats.subsampling import evenly_spaced

SAMPLE_FILE = "sample.safetensors"
SAMPLE_IMAGES = 256
SAME = 1e-3
"""Features of one image differ by less than this part of their length, whatever batch it was read in."""


@dataclass(frozen=True)
class FeatureSample:
    """Features of some training images, each of a group of its own."""

    features: Array32
    """What the head reads, float32 (m, D)."""

    @classmethod
    def of(cls, features: Array32 | MappedRows, groups: npt.NDArray[Any]) -> "FeatureSample":
        """Return a sample of features (n, D), evenly spaced over the groups of the images (n,)."""
        chosen = sample_rows(groups)
        return cls(
            np.ascontiguousarray(features[chosen] if isinstance(features, np.ndarray) else features.read(chosen))
        )

    def without(self, features: Array32) -> "FeatureSample":
        """Return the sample without the images that have these features (k, D)."""
        lengths = np.linalg.norm(self.features, axis=1)
        apart = [
            np.linalg.norm(features - row, axis=1).min(initial=np.inf) > SAME * length
            for row, length in zip(self.features, lengths, strict=True)
        ]
        return FeatureSample(self.features[np.array(apart, dtype=np.bool_)])

    def save(self, folder: Path) -> None:
        """Write `sample.safetensors` into a folder, which exists."""
        with replacing(folder / SAMPLE_FILE) as temporary:
            temporary.write_bytes(safetensors.numpy.save({"features": self.features}))

    @classmethod
    def load(cls, folder: Path, width: int) -> "FeatureSample | None":
        """Read what `save` wrote, of `width` features; None if there is no such file, as in older bundles.

        Raises:
            ModelError: if the file cannot be read or is of another head.
        """
        file = folder / SAMPLE_FILE
        if not file.is_file():
            return None
        features = read_arrays(file, "features")["features"]
        if features.ndim != 2 or features.shape[1] != width or not np.isfinite(features).all():
            raise ModelError(f"{file}: of {features.shape}, expected {width} finite features; train the model again")
        return cls(features.astype(np.float32))


def sample_rows(groups: npt.NDArray[Any], most: int = SAMPLE_IMAGES) -> Ints:
    """Return the rows of at most `most` images, ascending: the first of each group, evenly spaced."""
    _, first = np.unique(groups.astype(str), return_index=True)
    first = np.sort(first)
    return first if len(first) <= most else np.asarray(first[evenly_spaced(len(first), most)])
