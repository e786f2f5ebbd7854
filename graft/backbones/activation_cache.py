"""Cached boundary activations: a training stage runs only the groups it trains.

While the groups up to a boundary are frozen (their BatchNorm too), their output for a given image never changes. It is
computed once per augmented view, stored as float16, and read memory-mapped in every epoch. The results are the same as
without the cache, up to the rounding of float16.
"""

import hashlib
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from graft.backbones.backbone import Backbone
from graft.backbones.exportable import Outputs
from graft.backbones.extraction import run_batches, worker_count
from graft.backbones.flops import count_operations
from graft.backbones.runtime_choice import Backend, choose_backend
from graft.backbones.runtimes import BoundaryRuntime, start_boundary_runtime
from graft.core.atomic import replacing
from graft.core.boundary import machine_fault
from graft.core.cache import MAX_CACHE_BYTES, cache_key, cache_root, lock_entry, mark_used_and_evict, usable
from graft.core.errors import GraftError
from graft.core.mapped_arrays import create_array, open_array
from graft.core.progress import progress
from graft.core.source_code import source_digest

Pixels = Callable[[int, int], torch.Tensor]
LEAST_GAIN = 1.2
"""Least speedup of an epoch, by operations, for which activations are cached."""
MOST_BYTES_PER_IMAGE = 256 * 2**10
_VALUES_FILE, _POOLED_FILE = "activations.npy", "pooled.npy"
_BATCH_SIZE = 8


@dataclass(frozen=True)
class View:
    """The activations of every image in one augmented view, memory-mapped."""

    values: npt.NDArray[Any]
    """float16 (n, ...); float32 if float16 cannot hold them; (n, H, W, C) where the backbone has (n, C, H, W)."""
    pooled: npt.NDArray[np.float32]
    """(n, sum of widths): pooled features of the frozen groups, concatenated."""


class BoundaryCache:
    """Activations after one group. A view is computed on first use, and stored."""

    def __init__(
        self,
        folder: Path,
        prefix: Backbone,
        pixels: Pixels,
        images: int,
        views: int,
        workers: int | None,
        backend: Backend = "torch",
    ) -> None:
        self.folder = folder
        self.views = views
        self.widths = dict(zip(prefix.spec.groups, prefix.spec.widths, strict=True))
        """Number of pooled features of the frozen groups, in forward order; the last is the boundary."""
        self._prefix = prefix
        self._pixels = pixels
        self._images = images
        self._workers = workers or worker_count("auto")
        self._backend = backend
        self._opened: dict[int, View] = {}

    @classmethod
    def open(
        cls,
        backbone: Backbone,
        group: str,
        pixels: Pixels,
        ids: Sequence[str],
        *,
        views: int = 1,
        augmentation: str = "none",
        workers: int | None = None,
    ) -> "BoundaryCache":
        """Open the cache of activations after `group`; views that earlier runs computed are reused.

        Args:
            backbone: frozen up to and including `group`; the other groups do not matter.
            group: the last frozen one.
            pixels: from (position, view) to uint8 (C, S, S); called from several threads at once.
            ids: content digest of every image, by position.
            views: how many augmented views of each image.
            augmentation: everything besides the images that determines the result of `pixels`: kind, strength, seed.
            workers: threads; None for one per core.
        """
        prefix = backbone.truncated(group)
        name = cache_key(
            {
                "prefix": prefix.fingerprint(),
                "ids": hashlib.sha256("\n".join(ids).encode()).hexdigest(),
                "augmentation": augmentation,
                "torch": torch.__version__,
                "code": source_digest(__name__),
            }
        )
        backend = choose_backend("auto", sum(count_operations(prefix)) * len(ids) * views)
        root = cache_root()
        if root is None:
            folder = Path(tempfile.mkdtemp(prefix="graft-activations-"))
            cache = cls(folder, prefix, pixels, len(ids), views, workers, backend)
            weakref.finalize(cache, shutil.rmtree, folder, ignore_errors=True)
            return cache
        folder = root / "activations" / name
        mark_used_and_evict(folder)
        return cls(folder, prefix, pixels, len(ids), views, workers, backend)

    @property
    def after(self) -> str:
        """The last frozen group."""
        return next(reversed(self.widths))

    def __len__(self) -> int:
        """Return the number of images."""
        return self._images

    def batch(self, positions: Sequence[int] | npt.NDArray[np.int64], view: int = 0) -> torch.Tensor:
        """Return float32 activations (b, ...) of the images at `positions`, for `Backbone.suffix`; channels_last."""
        chosen = torch.from_numpy(self.view(view).values[np.asarray(positions)]).to(torch.float32)
        return chosen.permute(0, 3, 1, 2) if self._channels_first(chosen) else chosen

    def taps(
        self, positions: Sequence[int] | npt.NDArray[np.int64], view: int, groups: Sequence[str]
    ) -> list[torch.Tensor]:
        """Return the pooled features float32 (b, d_g) of frozen groups, for a head that reads them too."""
        chosen = torch.from_numpy(self.view(view).pooled[np.asarray(positions)])
        parts = dict(zip(self.widths, torch.split(chosen, list(self.widths.values()), dim=1), strict=True))
        return [parts[group] for group in groups]

    def view(self, number: int) -> View:
        """Return one view of all images; numbers beyond the last view start over."""
        number %= self.views
        if number not in self._opened:
            folder = self._folder(number, self._backend)
            if not usable(folder):  # torch may stand in for the backend; its activations differ in the last digits
                folder = self._folder(number, self._runtime.backend)
                # In distributed training, the first process computes it on all cores while the others wait.
                with lock_entry(folder):
                    if not usable(folder):
                        folder = self._computed(folder, number)
            values, pooled = (open_array(folder / name) for name in (_VALUES_FILE, _POOLED_FILE))
            self._opened[number] = View(values, pooled)
        return self._opened[number]

    def _folder(self, view: int, backend: Backend) -> Path:
        return self.folder / f"{backend}-view-{view}"

    def _computed(self, folder: Path, view: int) -> Path:
        """Compute a view; return its folder, a temporary one if the cache has no room."""
        try:
            self._compute(folder, view)
            return folder
        except (GraftError, OSError) as error:
            if not machine_fault(error):
                raise
            warnings.warn(f"{folder}: activations are not kept for another run ({error})", stacklevel=2)
        elsewhere = Path(tempfile.mkdtemp(prefix="graft-activations-"))
        weakref.finalize(self, shutil.rmtree, elsewhere, ignore_errors=True)
        self._compute(elsewhere / folder.name, view)
        return elsewhere / folder.name

    def _compute(self, folder: Path, view: int) -> None:
        with replacing(folder) as temporary:
            temporary.mkdir()
            for dtype in (np.float16, np.float32):
                results = run_batches(
                    self._runtime.run,
                    lambda position: self._pixels(position, view),
                    range(self._images),
                    batch_size=_BATCH_SIZE,
                    workers=self._workers,
                )
                if _write(temporary, results, self._images, dtype):
                    break

    @cached_property
    def _runtime(self) -> BoundaryRuntime:
        return start_boundary_runtime(self._prefix, self._backend, self._workers)

    def _channels_first(self, activation: torch.Tensor) -> bool:
        return activation.ndim == 4 and not self._prefix.spec.channels_last


def speedup(backbone: Backbone, group: str) -> float:
    """Return the factor by which caching the activations after `group` reduces the operations of an epoch.

    A trained group costs its forward pass and twice that for the backward pass; a frozen one its forward pass.
    """
    counted = count_operations(backbone)
    boundary = backbone.spec.index(group) + 1
    frozen, trained = sum(counted[:boundary]), 3 * sum(counted[boundary:])
    return (frozen + trained) / trained if trained else float("inf")


def worth_caching(backbone: Backbone, group: str, images: int, views: int = 1) -> bool:
    """Decide whether to cache the activations after `group`: by the speedup, their size, and the free disk space.

    The decision does not depend on measured times, so it is the same in every run.
    """
    prefix = backbone.truncated(group)
    with torch.inference_mode():
        per_image = prefix.suffix(torch.zeros(1, *backbone.spec.transform.shape)).numel() * 2
    needed = per_image * images * views
    place = cache_root() or Path(tempfile.gettempdir())
    room = min(MAX_CACHE_BYTES, shutil.disk_usage(place).free // 2)
    return speedup(backbone, group) >= LEAST_GAIN and per_image <= MOST_BYTES_PER_IMAGE and needed <= room


def _write(
    folder: Path,
    results: Iterator[tuple[Sequence[int], Outputs]],
    images: int,
    dtype: type[np.floating[Any]],
) -> bool:
    """Write activations in order; return False if `dtype` cannot represent one of them."""
    files: list[npt.NDArray[Any]] = []

    def each() -> Iterator[int]:
        done = 0
        for positions, (pooled, activation) in results:
            with np.errstate(over="ignore"):
                arrays = (activation.astype(dtype), pooled)
            if dtype is np.float16 and not np.isfinite(arrays[0]).all():
                return
            if not files:
                for name, array in zip((_VALUES_FILE, _POOLED_FILE), arrays, strict=True):
                    shape = (images, *array.shape[1:])
                    files.append(create_array(folder / name, array.dtype, shape))
            for file, array in zip(files, arrays, strict=True):
                file[done : done + len(positions)] = array
            done += len(positions)
            yield from positions

    return sum(1 for _ in progress(each(), "boundary activations", total=images)) == images
