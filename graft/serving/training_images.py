"""Which images a registered version was trained on, so that it is only judged on others.

Kept with the packed model as hashes of 64 bits: of each image's content and of each group's name. A million images take
up to 16 MB, and one of a million others is mistaken for one of them with a probability of about 1 in 10 million.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.core.atomic import replacing
from graft.core.boundary import readable
from graft.core.checksums import check_file
from graft.core.digest import short_hashes
from graft.data.dataset import ImageDataset

TRAINING_IMAGES_FILE = "training_images.npy"


@dataclass(frozen=True)
class TrainingImages:
    """The images and groups that a version has seen."""

    hashes: npt.NDArray[np.uint64]
    """Sorted, (m,)."""

    @classmethod
    def of(cls, dataset: ImageDataset) -> "TrainingImages":
        """Return the images of a dataset that its model has seen: all that are not held out for the test.

        Validation images count, because thresholds and stages are chosen on them and a refit trains on them.
        """
        return cls.of_rows(dataset.table[(dataset.table["split"] != "test").to_numpy()])

    @classmethod
    def of_rows(cls, table: pd.DataFrame) -> "TrainingImages":
        """Return the images of a table with `id` and `group`."""
        return cls(
            np.unique(np.concatenate([short_hashes("image", table["id"]), short_hashes("group", table["group"])]))
        )

    def merged(self, other: "TrainingImages") -> "TrainingImages":
        """Return the images of both."""
        return TrainingImages(np.unique(np.concatenate([self.hashes, other.hashes])))

    def without(self, table: pd.DataFrame) -> "TrainingImages":
        """Return the images that are not in a table with `id` and `group`."""
        return TrainingImages(np.setdiff1d(self.hashes, TrainingImages.of_rows(table).hashes))

    def contain(self, table: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Return which images (n,) are known, or are of a known group; `table` has `id` and `group`."""
        return np.isin(short_hashes("image", table["id"]), self.hashes) | np.isin(
            short_hashes("group", table["group"]), self.hashes
        )

    def write(self, folder: Path) -> Path:
        """Write the hashes into `folder`, and return the file."""
        file = folder / TRAINING_IMAGES_FILE
        with replacing(file) as temporary, temporary.open("wb") as opened:
            np.save(opened, self.hashes, allow_pickle=False)
        return file

    @classmethod
    def read(cls, folder: Path) -> "TrainingImages | None":
        """Read what `write` wrote; None for a version that was registered without it."""
        file = folder / TRAINING_IMAGES_FILE
        if not file.is_file():
            return None
        check_file(file)
        with readable(file):
            return cls(np.load(file, allow_pickle=False))
