"""Cached boundary activations: a training stage runs only what it trains.

While the groups up to a boundary are frozen (their BatchNorm too), their output for a given picture never changes. It
is computed once per augmented view, kept as float16, and read memory-mapped in every epoch. The same numbers result as
without the cache, to the rounding of float16.
"""

import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from graft.backbone import Backbone
from graft.cache import KEPT_BYTES, cache_root, key, make_room, source_digest
from graft.cost import operations
from graft.extraction import folded, run, workers_of
from graft.files import read_json, replacing, write_json
from graft.progress import progress

LEAST_GAIN = 1.2
"""Cached only where an epoch gets at least so many times faster (by operations counted)."""
MOST_BYTES_PER_IMAGE = 256 * 2**10
_VALUES_FILE, _POOLED_FILE, _SPEC_FILE = "activations.npy", "pooled.npy", "spec.json"
_BATCH_SIZE = 8
_CODE = ("transform", "images", "fold", "backbone", "extraction", "activations")


@dataclass(frozen=True)
class BoundaryCache:
    """Activations after one group, for every image and view."""

    values: npt.NDArray[Any]
    """float16 (views, n, ...), memory-mapped; float32 if float16 cannot hold them."""
    channels_first: bool
    """Whether activations are (C, H, W) to the backbone; they are stored as (H, W, C)."""
    pooled: npt.NDArray[np.float32]
    """(views, n, sum of widths), memory-mapped: pooled features of the frozen groups, side by side."""
    widths: dict[str, int]
    """Their widths, by group in forward order; the last is the boundary."""

    @property
    def after(self) -> str:
        """The last frozen group."""
        return next(reversed(self.widths))

    @property
    def views(self) -> int:
        """Number of augmented views of every image."""
        return int(self.values.shape[0])

    def __len__(self) -> int:
        """Return the number of images."""
        return int(self.values.shape[1])

    def batch(self, positions: Sequence[int] | npt.NDArray[np.int64], view: int = 0) -> torch.Tensor:
        """Return float32 activations (b, ...) for `Backbone.suffix`, of the images at `positions`; channels_last."""
        chosen = torch.from_numpy(self.values[view % self.views][np.asarray(positions)]).to(torch.float32)
        return chosen.permute(0, 3, 1, 2) if self.channels_first else chosen

    def taps(
        self, positions: Sequence[int] | npt.NDArray[np.int64], view: int, groups: Sequence[str]
    ) -> list[torch.Tensor]:
        """Return the pooled features float32 (b, d_g) of frozen groups, for a head that reads them too."""
        chosen = torch.from_numpy(self.pooled[view % self.views][np.asarray(positions)])
        parts = dict(zip(self.widths, torch.split(chosen, list(self.widths.values()), dim=1), strict=True))
        return [parts[group] for group in groups]

    @classmethod
    def open(
        cls,
        backbone: Backbone,
        group: str,
        pixels: Callable[[int, int], torch.Tensor],
        ids: Sequence[str],
        *,
        views: int = 1,
        augmentation: str = "none",
        workers: int | None = None,
    ) -> "BoundaryCache":
        """Return the activations after `group`, from an earlier run or computed now.

        Args:
            backbone: frozen up to and including `group`; its other groups do not matter.
            group: the last frozen one.
            pixels: from (position, view) to uint8 (3, S, S); called from several threads at once.
            ids: content digest of every image, by position.
            views: how many augmented views of each image.
            augmentation: whatever determines what `pixels` returns besides the images: its kind, strength, seed.
            workers: threads; None for one per core.
        """
        prefix = backbone.truncated(group)
        name = key(
            {
                "prefix": prefix.fingerprint(),
                "ids": hashlib.sha256("\n".join(ids).encode()).hexdigest(),
                "views": views,
                "augmentation": augmentation,
                "torch": torch.__version__,
                "code": source_digest(*_CODE),
            }
        )
        root = cache_root()
        if root is None:
            folder = Path(tempfile.mkdtemp(prefix="graft-activations-"))
            cache = cls._compute(folder / name, prefix, pixels, len(ids), views, workers)
            weakref.finalize(cache.values, shutil.rmtree, folder, ignore_errors=True)
            return cache
        folder = root / "activations" / name
        make_room(folder)
        return cls._read(folder) if folder.is_dir() else cls._compute(folder, prefix, pixels, len(ids), views, workers)

    @classmethod
    def _compute(
        cls,
        folder: Path,
        prefix: Backbone,
        pixels: Callable[[int, int], torch.Tensor],
        images: int,
        views: int,
        workers: int | None,
    ) -> "BoundaryCache":
        fast = folded(prefix, lambda copy, batch: copy.taps(batch))
        transform = prefix.spec.transform

        def forward(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            with torch.inference_mode():
                activation = transform.normalise(batch).contiguous(memory_format=torch.channels_last)
                pooled = []
                for group in fast.groups:
                    activation = group(activation)
                    pooled.append(fast.pooled(activation))
                return activation, torch.cat(pooled, dim=1)

        channels_first = forward(pixels(0, 0)[None])[0].ndim == 4 and not prefix.spec.channels_last
        with replacing(folder) as temporary:
            temporary.mkdir()
            for dtype in (np.float16, np.float32):
                results = run(
                    forward,
                    lambda item: pixels(item % images, item // images),
                    range(images * views),
                    batch_size=_BATCH_SIZE,
                    workers=workers or workers_of("auto"),
                )
                if _write(temporary, results, (views, images), channels_first, dtype):
                    break
            widths = dict(zip(prefix.spec.groups, prefix.spec.widths, strict=True))
            write_json(temporary / _SPEC_FILE, {"channels_first": channels_first, "widths": list(widths.items())})
        return cls._read(folder)

    @classmethod
    def _read(cls, folder: Path) -> "BoundaryCache":
        spec = read_json(folder / _SPEC_FILE)
        return cls(
            values=np.load(folder / _VALUES_FILE, mmap_mode="r"),
            channels_first=bool(spec["channels_first"]),
            pooled=np.load(folder / _POOLED_FILE, mmap_mode="r"),
            widths=dict(spec["widths"]),
        )


def gain(backbone: Backbone, group: str) -> float:
    """Return how many times fewer operations an epoch takes if the activations after `group` are cached.

    A trained group costs its forward pass and twice that for the backward pass; a frozen one its forward pass.
    """
    counted = operations(backbone)
    boundary = backbone.spec.index(group) + 1
    frozen, trained = sum(counted[:boundary]), 3 * sum(counted[boundary:])
    return (frozen + trained) / trained if trained else float("inf")


def worth_caching(backbone: Backbone, group: str, images: int, views: int = 1) -> bool:
    """Tell whether to cache the activations after `group`: by the gain, their size, and the room for them on disk.

    The answer depends on no measured time, so it is the same in every run.
    """
    prefix = backbone.truncated(group)
    size = backbone.spec.transform.size
    with torch.inference_mode():
        per_image = prefix.suffix(torch.zeros(1, 3, size, size)).numel() * 2
    needed = per_image * images * views
    place = cache_root() or Path(tempfile.gettempdir())
    room = min(KEPT_BYTES, shutil.disk_usage(place).free // 2)
    return gain(backbone, group) >= LEAST_GAIN and per_image <= MOST_BYTES_PER_IMAGE and needed <= room


def _write(
    folder: Path,
    results: Iterator[tuple[Sequence[int], tuple[torch.Tensor, torch.Tensor]]],
    lead: tuple[int, int],
    channels_first: bool,
    dtype: type[np.floating[Any]],
) -> bool:
    """Write activations in order; return False if `dtype` cannot hold one of them."""
    files: list[npt.NDArray[Any]] = []
    total = lead[0] * lead[1]

    def each() -> Iterator[int]:
        done = 0
        for items, (activation, pooled) in results:
            stored = activation.permute(0, 2, 3, 1) if channels_first else activation
            with np.errstate(over="ignore"):
                arrays = (stored.numpy().astype(dtype), pooled.numpy())
            if dtype is np.float16 and not np.isfinite(arrays[0]).all():
                return
            if not files:
                for name, array in zip((_VALUES_FILE, _POOLED_FILE), arrays, strict=True):
                    shape = (*lead, *array.shape[1:])
                    file = np.lib.format.open_memmap(folder / name, mode="w+", dtype=array.dtype, shape=shape)
                    files.append(file.reshape(total, *array.shape[1:]))
            for place, array in zip(files, arrays, strict=True):
                place[done : done + len(items)] = array
            done += len(items)
            yield from items

    return sum(1 for _ in progress(each(), "boundary activations", total=total)) == total
