"""MapStore: the frozen backbone's maps of every photo at several resolutions, as one artifact.

A folder that contains

- `features.json`: the backbone, the levels, the data's digest, the task;
- `table.parquet`: the dataset's table, one row per photo;
- `maps/<i>-<group>.npy`: float16 (n, c, h, w); read memory-mapped;
- `masks-00000.arrow`, ...: the masks in the same squares as the photos, one PNG each;
- `backbone/`: the backbone itself.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field

from graft.backbones.backbone import Backbone, build_backbone, save_backbone
from graft.backbones.feature_store import auto_image_size
from graft.core.artifact import read_spec
from graft.core.atomic import write_json
from graft.core.errors import ParamsError
from graft.core.mapped_arrays import create_array, open_array
from graft.core.parquet import read_table, write_table
from graft.core.progress import progress
from graft.data.records import Split
from graft.data.row_shards import ImageReader, write_shards
from graft.decoders.levels import Level, Trunk, find_levels
from graft.imaging.letterbox import fitted, letterbox, letterbox_mask
from graft.imaging.transform import Transform
from graft.masks.dataset import MaskDataset
from graft.masks.mask_file import read_mask, write_mask
from graft.params.extract_features import ExtractFeaturesParams
from graft.tasks.pixels import IGNORED, PixelTask, refuse_others

SPEC_FILE, TABLE_FILE, MAPS_FOLDER, BACKBONE_FOLDER = "features.json", "table.parquet", "maps", "backbone"
USED_PARAMS = ("backbone", "weights", "image_size", "mean", "std", "stem", "batch_size", "workers", "seed")
BATCH = 8
Masks = npt.NDArray[np.uint8]


class MapSpec(BaseModel):
    """The metadata of the maps."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    version: Literal[1] = 1
    backbone_content: Mapping[str, Any] = Field(alias="backbone")
    fingerprint: str
    dataset_digest: str
    classes: tuple[str, ...]
    task: PixelTask
    levels: tuple[Level, ...]
    mask_shards: tuple[int, ...] = ()

    @property
    def transform(self) -> Transform:
        """Preprocessing of a photo."""
        return Transform.model_validate(self.backbone_content["transform"])


@dataclass(frozen=True)
class MapStore:
    """A read-only view of the artifact at `path`."""

    path: Path
    spec: MapSpec
    table: pd.DataFrame

    @classmethod
    def read(cls, path: Path) -> "MapStore":
        """Open the artifact that extract_features wrote.

        Raises:
            DataError: if the folder has no maps.
        """
        path = Path(path)
        spec = read_spec(path / SPEC_FILE, MapSpec, content="maps", step="extract_features")
        return cls(path, spec, read_table(path / TABLE_FILE))

    @property
    def backbone_folder(self) -> Path:
        """Where `load_backbone` finds the backbone that made the maps."""
        return self.path / BACKBONE_FOLDER

    @property
    def levels(self) -> tuple[Level, ...]:
        """The maps of every photo, the finest first."""
        return self.spec.levels

    @property
    def groups(self) -> npt.NDArray[np.object_]:
        """Name of every photo's group (n,)."""
        return self.table["group"].to_numpy(dtype=object)

    def rows(self, split: Split) -> npt.NDArray[np.int64]:
        """Return the rows of one split, ascending."""
        return np.flatnonzero(self.table["split"].to_numpy() == split)

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

    def bytes_per_photo(self) -> float:
        """Return the size of the cached maps and masks of one photo."""
        files = [*(self.path / MAPS_FOLDER).iterdir(), *self.path.glob("masks-*.arrow")]
        return sum(file.stat().st_size for file in files) / max(1, len(self.table))


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
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BACKBONE_FOLDER).mkdir()
    (folder / MAPS_FOLDER).mkdir()
    save_backbone(backbone, folder / BACKBONE_FOLDER)
    write_table(folder / TABLE_FILE, dataset.table)
    size = backbone.spec.transform.size
    squares = (write_mask(mask) for mask in _square_masks(dataset, size))
    shards = tuple(write_shards(folder, zip(dataset.table["path"], squares, strict=True), "masks"))
    spec = MapSpec(
        backbone_content=backbone.spec.model_dump(mode="json"),
        fingerprint=backbone.fingerprint(),
        dataset_digest=dataset.spec.digest,
        classes=dataset.task.labels,
        task=dataset.task,
        levels=levels,
        mask_shards=shards,
    )
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


def maps_backbone(dataset: MaskDataset, params: ExtractFeaturesParams) -> Backbone:
    """Build the backbone that the parameters describe, for photos with masks.

    Raises:
        ParamsError: for a parameter that has no meaning for maps.
    """
    kind = dataset.task.kind
    refuse_others("extract_features", params, USED_PARAMS, kind)
    if params.backbone == "auto":
        raise ParamsError(f"extract_features.backbone=auto: task {kind} has no such choice; name one")
    size = None if params.image_size == "auto" else params.image_size
    backbone = build_backbone(
        params.backbone,
        params.weights,
        image_size=size,
        channels=dataset.spec.channels,
        max_pixels=dataset.spec.max_pixels,
        stem=params.stem,
        mean=params.mean,
        std=params.std,
        seed=params.seed,
    )
    if size is None and auto_image_size(dataset.table) < backbone.spec.transform.size:
        return maps_backbone(dataset, params.model_copy(update={"image_size": auto_image_size(dataset.table)}))
    return backbone


def compute_maps(
    backbone: Backbone, levels: Sequence[Level], photos: Iterator[bytes], total: int | None = None, batch: int = BATCH
) -> Iterator[list[npt.NDArray[np.float16]]]:
    """Yield the maps of photos in batches: for each level float16 (b, c, h, w)."""
    transform = backbone.spec.transform
    trunk = Trunk(backbone, tuple(level.group for level in levels)).eval()
    with ThreadPoolExecutor(2) as pool:
        squares = progress(_in_order(pool, transform, photos), "extract_features", total)
        while pixels := list(islice(squares, batch)):
            with torch.inference_mode():
                maps = trunk(transform.normalise(torch.stack(pixels)))
            yield [one.to(torch.float16).numpy() for one in maps]


def _in_order(pool: ThreadPoolExecutor, transform: Transform, photos: Iterator[bytes]) -> Iterator[torch.Tensor]:
    while chunk := list(islice(photos, 4 * BATCH)):
        yield from pool.map(lambda photo: letterbox(photo, transform)[0], chunk)


def _square_masks(dataset: MaskDataset, size: int) -> Iterator[Masks]:
    sizes = dataset.table[["height", "width"]].to_numpy()
    for row, (height, width) in enumerate(sizes):
        yield letterbox_mask(dataset.mask(row), fitted(int(height), int(width), size), size, IGNORED)


def _map_file(at: int, level: Level) -> Path:
    return Path(MAPS_FOLDER) / f"{at:02d}-{level.group}.npy"
