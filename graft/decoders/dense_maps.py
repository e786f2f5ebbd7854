"""MapStore: the frozen backbone's maps of every photo's square.

Beside what all cached maps have: `maps/<i>-<group>.npy`, float16 (n, c, h, w), and `masks-00000.arrow`, ..., the masks
in the same squares as the photos, one PNG each.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from graft.backbones.backbone import Backbone
from graft.core.artifact import read_spec
from graft.core.atomic import write_json
from graft.core.mapped_arrays import create_array, open_array
from graft.core.parquet import read_table
from graft.core.progress import progress
from graft.data.row_shards import ImageReader, write_shards
from graft.dense.ahead import ahead
from graft.dense.backbone_choice import maps_backbone
from graft.dense.cached_maps import (
    MAPS_FOLDER,
    SPEC_FILE,
    TABLE_FILE,
    CachedMaps,
    CachedMapsSpec,
    begin_maps,
    described,
)
from graft.dense.levels import Level, Trunk, find_levels
from graft.imaging.letterbox import fitted, letterbox, letterbox_mask
from graft.masks.dataset import MaskDataset
from graft.masks.mask_file import read_mask, write_mask
from graft.params.extract_features import ExtractFeaturesParams
from graft.tasks.pixels import IGNORED

BATCH = 8
Masks = npt.NDArray[np.uint8]


class MapSpec(CachedMapsSpec):
    """The metadata of the maps."""

    mask_shards: tuple[int, ...] = ()


@dataclass(frozen=True)
class MapStore(CachedMaps[MapSpec]):
    """A read-only view of the artifact at `path`."""

    @classmethod
    def read(cls, path: Path) -> "MapStore":
        """Open the artifact that extract_features wrote.

        Raises:
            DataError: if the folder has no maps.
        """
        path = Path(path)
        spec = read_spec(path / SPEC_FILE, MapSpec, content="maps", step="extract_features")
        return cls(path, spec, read_table(path / TABLE_FILE))

    @cached_property
    def maps(self) -> list[npt.NDArray[np.float16]]:
        """The maps of every level, float16 (n, c, h, w), memory-mapped."""
        return [open_array(self.path / _map_file(at, level)) for at, level in enumerate(self.spec.levels)]

    def maps_of(self, row: int) -> list[npt.NDArray[np.float16]]:
        """Return the maps (c, h, w) of one photo's square."""
        return [level[int(row)] for level in self.maps]

    @cached_property
    def _masks(self) -> ImageReader:
        return ImageReader(self.path, self.spec.mask_shards, "masks")

    def mask(self, row: int) -> Masks:
        """Return the class index of every pixel of a photo's square, uint8 (S, S); `IGNORED` beside the photo."""
        return read_mask(self._masks[int(row)]).values.astype(np.uint8)

    def masks(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> Masks:
        """Return the masks of some rows, uint8 (n, S, S)."""
        size = self.spec.transform.size
        return np.stack([self.mask(int(row)) for row in rows]) if len(rows) else np.zeros((0, size, size), np.uint8)

    def _cached_files(self) -> list[Path]:
        return [*super()._cached_files(), *self.path.glob("masks-*.arrow")]


@dataclass(frozen=True)
class ExtractedMaps:
    """The result of an extraction."""

    store: MapStore
    seconds: float


def extract_maps(folder: Path, dataset: MaskDataset, params: ExtractFeaturesParams) -> ExtractedMaps:
    """Run the frozen backbone once over every photo, and write the maps and the masks in the same squares.

    Raises:
        ModelError: for an unknown backbone, or one without maps of several resolutions.
        ParamsError: for a parameter that has no meaning for maps.
    """
    backbone = maps_backbone(dataset, params)
    levels = find_levels(backbone)
    begin_maps(folder, dataset, backbone)
    size = backbone.spec.transform.size
    squares = (write_mask(mask) for mask in _square_masks(dataset, size))
    shards = tuple(write_shards(folder, zip(dataset.table["path"], squares, strict=True), "masks"))
    spec = MapSpec(**described(dataset, backbone, levels), mask_shards=shards)
    write_json(folder / SPEC_FILE, spec.model_dump(mode="json", by_alias=True))
    start = time.monotonic()
    written = [
        create_array(folder / _map_file(at, level), np.float16, (len(dataset), level.channels, level.side, level.side))
        for at, level in enumerate(levels)
    ]
    batch = BATCH if params.batch_size == "auto" else params.batch_size
    photos = (dataset.photos[row] for row in range(len(dataset)))
    done = 0
    for maps in compute_maps(backbone, levels, photos, len(dataset), batch):
        for target, found in zip(written, maps, strict=True):
            target[done : done + len(found)] = found
        done += len(maps[0])
    for target in written:
        target.flush()  # type: ignore[attr-defined]
    return ExtractedMaps(MapStore.read(folder), time.monotonic() - start)


def compute_maps(
    backbone: Backbone, levels: Sequence[Level], photos: Iterator[bytes], total: int | None = None, batch: int = BATCH
) -> Iterator[list[npt.NDArray[np.float16]]]:
    """Yield the maps of photos in batches: for each level float16 (b, c, h, w)."""
    transform = backbone.spec.transform
    trunk = Trunk(backbone, tuple(level.group for level in levels)).eval()
    decoded = ahead(lambda photo: letterbox(photo, transform)[0], photos, 4 * BATCH)
    squares = progress(decoded, "extract_features", total)
    while pixels := list(islice(squares, batch)):
        with torch.inference_mode():
            maps = trunk(transform.normalise(torch.stack(pixels)))
        yield [one.to(torch.float16).numpy() for one in maps]


def _square_masks(dataset: MaskDataset, size: int) -> Iterator[Masks]:
    sizes = dataset.table[["height", "width"]].to_numpy()
    for row, (height, width) in enumerate(sizes):
        yield letterbox_mask(dataset.mask(row), fitted(int(height), int(width), size), size, IGNORED)


def _map_file(at: int, level: Level) -> Path:
    return Path(MAPS_FOLDER) / f"{at:02d}-{level.group}.npy"
