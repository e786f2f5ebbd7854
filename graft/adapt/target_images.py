"""The images of the target domain: which of them count, and their features in each view, decoded again for each pass.

Nothing but the features stays in memory.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from graft.backbones.bn_folding import for_inference
from graft.core.errors import DataError
from graft.core.progress import progress
from graft.data.safe_paths import read_bytes
from graft.heads.protocols import Ints
from graft.imaging.transform import Transform
from graft.models.batch_norm import NORM_BATCH
from graft.models.classifier import Classifier
from graft.stats.subsampling import evenly_spaced

BATCH = 16
THREADS = 2


@dataclass(frozen=True)
class TargetImages:
    """Image files of one domain, without labels, in the order of their contents: no name changes what is learnt."""

    folder: Path
    files: tuple[str, ...]
    """Relative paths of the images to adapt to, each of another content."""
    ids: tuple[str, ...]
    """sha256 of each one's content."""
    copies: int = 0
    """Files left out because another has the same content."""
    unreadable: tuple[tuple[str, str], ...] = ()
    """Files left out because they cannot be read, with the reason."""

    @classmethod
    def of(cls, folder: Path, files: Sequence[str]) -> "TargetImages":
        """Return the files with different contents; those that cannot be opened are left out.

        Args:
            folder: of the images.
            files: relative paths.
        """
        known: dict[str, str] = {}
        unreadable = []
        for file in files:
            try:
                known.setdefault(hashlib.sha256(read_bytes(folder / file)).hexdigest(), file)
            except DataError as error:
                unreadable.append((file, str(error)))
        copies = len(files) - len(known) - len(unreadable)
        ids = sorted(known)
        return cls(folder, tuple(known[identity] for identity in ids), tuple(ids), copies, tuple(unreadable))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def kept(self, rows: npt.NDArray[np.bool_] | Ints) -> "TargetImages":
        """Return some of the images, by mask or position."""
        chosen = np.arange(len(self))[rows]
        return replace(self, files=tuple(self.files[row] for row in chosen), ids=tuple(self.ids[row] for row in chosen))

    def at_most(self, most: int) -> "TargetImages":
        """Return at most `most` of the images, evenly spaced in the order of their contents."""
        return self if len(self) <= most else self.kept(evenly_spaced(len(self), most))

    def readable(self, transform: Transform) -> "TargetImages":
        """Return the images that can be decoded.

        Raises:
            DataError: if none can, with the reason for the first.
        """
        faults = [_fault(self.folder / file, transform) for file in progress(self.files, "decode", len(self))]
        if all(faults):
            first = f"; {self.files[0]}: {faults[0]}" if faults else ""
            raise DataError(f"{self.folder}: none of {len(self)} image files can be read{first}")
        found = self.kept(np.array([not fault for fault in faults]))
        broken = ((file, fault) for file, fault in zip(self.files, faults, strict=True) if fault)
        return replace(found, unreadable=(*self.unreadable, *broken))

    def features(self, classifier: Classifier, transform: Transform, what: str) -> npt.NDArray[np.float32]:
        """Return what a classifier's head reads, (n, D), of every image."""
        blank = transform.normalise(torch.zeros(1, *transform.shape, dtype=torch.uint8))
        network = for_inference(classifier, blank, lambda module, batch: module.features(batch))
        found = []
        with torch.inference_mode():
            for batch in self._batches(range(len(self)), transform, BATCH, what):
                found.append(network.features(batch.contiguous(memory_format=torch.channels_last)).numpy())
        return np.concatenate(found)

    def shuffled(self, transform: Transform, seed: int, what: str) -> Iterator[torch.Tensor]:
        """Yield normalised batches (b, C, S, S) of all images in random order."""
        order = np.random.default_rng(seed).permutation(len(self))
        count = max(1, round(len(self) / NORM_BATCH))
        yield from self._batches(order.tolist(), transform, -(-len(self) // count), what)

    def _batches(self, rows: Sequence[int], transform: Transform, size: int, what: str) -> Iterator[torch.Tensor]:
        def pixels(row: int) -> torch.Tensor:
            return transform.pixels(read_bytes(self.folder / self.files[row]))

        with ThreadPoolExecutor(THREADS) as pool:
            left = iter(progress(rows, what, len(rows)))
            while chunk := list(islice(left, size)):
                yield transform.normalise(torch.stack(list(pool.map(pixels, chunk))))


def _fault(path: Path, transform: Transform) -> str:
    try:
        transform.pixels(read_bytes(path))
    except DataError as error:
        return str(error)
    return ""
