"""The memory of a model: statistics of all images that it has learnt, which images those were, and of which features.

`memory.safetensors` in the bundle's folder. With 1,280 features it takes 6.6 MB, and 10 KB more for each class: of the
scatter only one triangle is kept. Images are kept as hashes of 64 bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from graft.continual.class_statistics import ClassStatistics
from graft.continual.tensor_file import read_tensors, write_tensors
from graft.core.digest import short_hashes
from graft.core.errors import ModelError
from graft.core.row_blocks import Rows
from graft.heads.protocols import Ints

MEMORY_FILE = "memory.safetensors"
WIDEST = 4096
"""Most features that a memory is kept of: their scatter takes 67 MB."""


@dataclass(frozen=True)
class Memory:
    """What a model knows of the images that it has learnt."""

    statistics: ClassStatistics
    images: npt.NDArray[np.uint64]
    """Hash of every image, (n,), ascending."""
    classes: Ints
    """Class of every image, (n,): index in `statistics.labels`."""
    fingerprint: str
    """Of the backbone, cut where the head reads it: statistics of other features cannot be added."""
    taps: tuple[str, ...]
    """Groups whose features they are."""

    @classmethod
    def of(
        cls,
        features: npt.NDArray[np.floating] | Rows,
        names: Sequence[str],
        ids: Sequence[str],
        fingerprint: str,
        taps: Sequence[str],
    ) -> "Memory":
        """Return the memory of images.

        Args:
            features: what the head reads, (n, D).
            names: class of each image.
            ids: content id of each image.
            fingerprint: of the backbone.
            taps: groups that the features are of.
        """
        statistics = ClassStatistics.of(features, names)
        hashes = image_hashes(ids)
        order = np.argsort(hashes, kind="stable")
        codes = np.searchsorted(np.array(statistics.labels), np.asarray(names, dtype=str))[order]
        return cls(statistics, hashes[order], codes.astype(np.int64), fingerprint, tuple(taps))

    def knows(self, ids: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return which images (n,) were learnt."""
        return np.isin(image_hashes(ids), self.images)

    def names_of(self, ids: Sequence[str]) -> list[str]:
        """Return as what each image was learnt; of copies, as what one of them was.

        Raises:
            ModelError: if one was not learnt.
        """
        hashes = image_hashes(ids)
        if not np.isin(hashes, self.images).all():
            raise ModelError("an image that was not learnt has no class in the memory")
        places = np.searchsorted(self.images, hashes)
        return [self.statistics.labels[code] for code in self.classes[places]]

    def merged(self, other: "Memory") -> "Memory":
        """Return the memory of both sets of images together.

        Raises:
            ModelError: if they are of other features.
        """
        self.check_features(other.fingerprint, other.taps)
        images = np.concatenate([self.images, other.images])
        names = np.concatenate([self._names(), other._names()])
        return self._with(self.statistics.merged(other.statistics), images, names)

    def without(self, other: "Memory") -> "Memory":
        """Return the memory as if it had never had the images of `other`.

        Raises:
            ModelError: if it does not have them, or they are of other features.
        """
        self.check_features(other.fingerprint, other.taps)
        kept, names = np.ones(len(self.images), dtype=np.bool_), self._names()
        for image, name in zip(other.images, other._names(), strict=True):
            same = np.flatnonzero((self.images == image) & kept & (names == name))
            if not len(same):
                raise ModelError("an image to take out of the memory is not in it")
            kept[same[0]] = False
        statistics = self.statistics.without(other.statistics)
        return self._with(statistics, self.images[kept], names[kept])

    def check_features(self, fingerprint: str, taps: Sequence[str]) -> None:
        """Raise an error unless features of this backbone after these groups can be added.

        Raises:
            ModelError: saying which of the two differs.
        """
        if fingerprint != self.fingerprint:
            raise ModelError(
                f"the memory is of backbone {self.fingerprint[:12]}, these features are of {fingerprint[:12]}: "
                "another backbone needs a full training"
            )
        if tuple(taps) != self.taps:
            raise ModelError(f"the memory is of the features after {', '.join(self.taps)}, not of {', '.join(taps)}")

    def save(self, folder: Path) -> None:
        """Write `memory.safetensors` into a bundle's folder, which exists."""
        statistics = self.statistics
        triangle = statistics.scatter[np.triu_indices(statistics.width)]
        arrays = {"counts": statistics.counts, "means": statistics.means, "scatter": triangle}
        arrays |= {"images": self.images, "classes": self.classes.astype(np.int32)}
        facts = {"labels": list(statistics.labels), "fingerprint": self.fingerprint, "taps": list(self.taps)}
        write_tensors(folder / MEMORY_FILE, arrays, facts)

    @classmethod
    def load(cls, folder: Path) -> "Memory":
        """Read the memory of a bundle.

        Raises:
            ModelError: if it has none, or what it has is damaged.
        """
        file = Path(folder) / MEMORY_FILE
        if not file.is_file():
            raise ModelError(
                f"{folder}: the model has no memory ({MEMORY_FILE}); train it again with train_head.memory=true "
                "(a head of one label per image, on at most 4,096 features)"
            )
        arrays, facts = read_tensors(file)
        width = arrays["means"].shape[1]
        scatter = np.zeros((width, width))
        scatter[np.triu_indices(width)] = arrays["scatter"]
        scatter += np.triu(scatter, 1).T
        statistics = ClassStatistics(tuple(facts["labels"]), arrays["counts"], arrays["means"], scatter)
        classes = arrays["classes"].astype(np.int64)
        return cls(statistics, arrays["images"], classes, facts["fingerprint"], tuple(facts["taps"]))

    def _names(self) -> npt.NDArray[np.str_]:
        return np.array(self.statistics.labels, dtype=str)[self.classes]

    def _with(
        self, statistics: ClassStatistics, images: npt.NDArray[np.uint64], names: npt.NDArray[np.str_]
    ) -> "Memory":
        order = np.argsort(images, kind="stable")
        codes = np.searchsorted(np.array(statistics.labels), names[order]).astype(np.int64)
        return replace(self, statistics=statistics, images=images[order], classes=codes)


def image_hashes(ids: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Return the hashes of content ids, (n,)."""
    return short_hashes("image", ids)
