"""The frozen backbone's maps of every photo as one artifact: what those of squares and of whole photos share.

A folder that contains

- `features.json`: the backbone, the levels, the data's digest, the task;
- `table.parquet`: the dataset's table, one row per photo;
- `maps/`: float16, a file for each level; read memory-mapped;
- `backbone/`: the backbone itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from graft.backbones.backbone import Backbone, save_backbone
from graft.backbones.backbone_record import record_backbone
from graft.core.parquet import write_table
from graft.data.records import Split
from graft.dense.levels import Level
from graft.imaging.transform import Transform
from graft.masks.dataset import MaskDataset
from graft.runs.run_log import Log
from graft.runs.step import Metrics
from graft.tasks.pixels import PixelTask

SPEC_FILE, TABLE_FILE, MAPS_FOLDER, BACKBONE_FOLDER = "features.json", "table.parquet", "maps", "backbone"


class CachedMapsSpec(BaseModel):
    """The metadata of the maps."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    version: Literal[1] = 1
    backbone_content: Mapping[str, Any] = Field(alias="backbone")
    fingerprint: str
    dataset_digest: str
    classes: tuple[str, ...]
    task: PixelTask
    levels: tuple[Level, ...]

    @property
    def transform(self) -> Transform:
        """Preprocessing of a photo."""
        return Transform.model_validate(self.backbone_content["transform"])


M = TypeVar("M", bound=CachedMapsSpec)


@dataclass(frozen=True)
class CachedMaps(Generic[M]):
    """A read-only view of the artifact at `path`."""

    path: Path
    spec: M
    table: pd.DataFrame

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

    def bytes_per_photo(self) -> float:
        """Return the size of what is cached of one photo."""
        return sum(file.stat().st_size for file in self._cached_files()) / max(1, len(self.table))

    def _cached_files(self) -> list[Path]:
        return list((self.path / MAPS_FOLDER).iterdir())


def begin_maps(folder: Path, dataset: MaskDataset, backbone: Backbone) -> None:
    """Make the folder of the artifact, with the backbone and the dataset's table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BACKBONE_FOLDER).mkdir()
    (folder / MAPS_FOLDER).mkdir()
    save_backbone(backbone, folder / BACKBONE_FOLDER)
    write_table(folder / TABLE_FILE, dataset.table)


def described(dataset: MaskDataset, backbone: Backbone, levels: Sequence[Level]) -> dict[str, Any]:
    """Return the fields of a `CachedMapsSpec`."""
    return {
        "backbone_content": backbone.spec.model_dump(mode="json"),
        "fingerprint": backbone.fingerprint(),
        "dataset_digest": dataset.spec.digest,
        "classes": dataset.task.labels,
        "task": dataset.task,
        "levels": tuple(levels),
    }


def extraction_metrics(store: CachedMaps[Any], dataset: MaskDataset, seconds: float, log: Log) -> Metrics:
    """Return what the step `extract_features` tells."""
    spec = store.spec
    return {
        **record_backbone(spec.backbone_content, spec.fingerprint, log),
        "channels": dataset.spec.channels,
        "backend": "torch",
        "images": len(dataset),
        "new_images": len(dataset),
        "taps": {level.group: level.channels for level in spec.levels},
        "bytes_per_image": round(store.bytes_per_photo()),
        "images_per_second": round(len(dataset) / seconds, 1),
        "candidates": [],
    }
