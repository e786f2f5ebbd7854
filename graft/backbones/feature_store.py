"""FeatureStore: the frozen backbone's features of every image, after every group, as one artifact.

A folder that contains

- `features.json`: the backbone, the data's digest, the classes, one entry per tap;
- `table.parquet`: the dataset's table, one row per image;
- `taps/<i>-<group>.npy`: float32 (n, d), row i for row i of the table; read memory-mapped;
- `backbone/`: the backbone itself, so that later steps need neither its parameters nor a download, and the output layer
  of its weights (see `pretrained_classifier`).

Nothing here needs torch: heads are fitted on the arrays alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator

from graft.backbones.pretrained_classifier import SourceClassifier
from graft.core.artifact import read_spec
from graft.core.atomic import write_json
from graft.core.errors import DamagedError, ModelError
from graft.core.mapped_arrays import create_array, open_array
from graft.core.parquet import read_table, write_table
from graft.core.row_blocks import MappedRows
from graft.data.dataset import LabelledTable
from graft.tasks.kinds import with_task
from graft.tasks.task import Task

if TYPE_CHECKING:
    from graft.backbones.backbone import BackboneSpec

SPEC_FILE, TABLE_FILE, TAPS_FOLDER, BACKBONE_FOLDER = "features.json", "table.parquet", "taps", "backbone"
SMALLEST_AUTO_SIZE = 96
SIZE_STEP = 32  # the total stride of nearly every backbone


class FeatureSpec(BaseModel):
    """The metadata of the arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    version: Literal[1] = 1
    backbone_content: Mapping[str, Any] = Field(alias="backbone")
    fingerprint: str
    """Digest of the backbone's tensors, groups and transform."""
    operations: int
    """Floating-point operations per image, of all groups."""
    dataset_digest: str
    classes: tuple[str, ...]
    """Names of the task's outputs, in order."""
    task: SerializeAsAny[Task]
    further_tasks: tuple[SerializeAsAny[Task], ...] = Field((), exclude_if=lambda tasks: not tasks)
    """Other tasks of the same images."""

    @model_validator(mode="before")
    @classmethod
    def _with_task(cls, content: Any) -> Any:
        return with_task(content, "classes")

    @cached_property
    def backbone(self) -> "BackboneSpec":
        """The backbone's description (imports torch, which the arrays do not need)."""
        from graft.backbones.backbone import BackboneSpec

        return BackboneSpec.model_validate(self.backbone_content)

    @property
    def taps(self) -> dict[str, int]:
        """Width of every tap by the name of its group, in forward order."""
        return dict(zip(self.backbone_content["groups"], self.backbone_content["widths"], strict=True))


@dataclass(frozen=True)
class FeatureStore(LabelledTable):
    """A read-only view of the artifact at `path`; arrays are memory-mapped on access."""

    path: Path
    spec: FeatureSpec
    table: pd.DataFrame

    @classmethod
    def read(cls, path: Path) -> "FeatureStore":
        """Open the artifact that extract_features wrote.

        Raises:
            DataError: if the folder has no features, or features of another format.
        """
        path = Path(path)
        spec = read_spec(path / SPEC_FILE, FeatureSpec, content="features", step="extract_features")
        return cls(path, spec, read_table(path / TABLE_FILE))

    @property
    def task(self) -> Task:
        """What is learnt from the images."""
        return self.spec.task

    @property
    def further_tasks(self) -> tuple[Task, ...]:
        """Other tasks of the same images."""
        return self.spec.further_tasks

    def of_task(self, task: Task) -> "FeatureStore":
        """Return the same features with one of the tasks alone."""
        alone = {"task": task, "classes": task.labels, "further_tasks": ()}
        return replace(self, spec=self.spec.model_copy(update=alone))

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the groups with features, in forward order."""
        return tuple(self.spec.taps)

    @property
    def backbone_folder(self) -> Path:
        """Where `load_backbone` finds the backbone that made the features."""
        return self.path / BACKBONE_FOLDER

    def source(self) -> SourceClassifier:
        """Return the output layer of the backbone's weights.

        Raises:
            ModelError: if its labels cannot be used, with the reason.
        """
        return SourceClassifier.read(self.backbone_folder)

    def tap(self, name: str) -> npt.NDArray[np.float32]:
        """Return the pooled features after group `name`, float32 (n, d), memory-mapped and read-only.

        Raises:
            ModelError: if the backbone has no group of that name.
            DamagedError: if the file cannot be read, differs from what was written, or has another shape.
        """
        if name not in self.taps:
            raise ModelError(f"{name!r} is not a group of the backbone; its groups are {', '.join(self.taps)}")
        file = self.path / _tap_file(self.taps, name)
        features: npt.NDArray[np.float32] = open_array(file)
        expected = (len(self.table), self.spec.taps[name])
        if features.shape != expected or features.dtype != np.float32:
            raise DamagedError(
                f"{file}: {features.dtype} {features.shape}, expected float32 {expected}; run extract_features again"
            )
        return features

    def mapped(self, taps: Sequence[str], rows: npt.NDArray[np.int64]) -> MappedRows:
        """Return the given rows of concatenated taps, (n, D), to be read in blocks."""
        return MappedRows(tuple(self.tap(name) for name in taps), rows)


def write_features(path: Path, spec: FeatureSpec, table: pd.DataFrame) -> list[npt.NDArray[np.float32]]:
    """Write everything but the backbone and the features; return one writable memory-mapped (n, d) array per tap."""
    (path / TAPS_FOLDER).mkdir(parents=True, exist_ok=True)
    write_table(path / TABLE_FILE, table)
    write_json(path / SPEC_FILE, spec.model_dump(mode="json", by_alias=True))
    return [
        create_array(path / _tap_file(tuple(spec.taps), name), np.float32, (len(table), width))
        for name, width in spec.taps.items()
    ]


def auto_image_size(table: pd.DataFrame) -> int:
    """Return the largest useful input size for these images, in pixels; the weights' own size caps it.

    It is twice the median shorter side, so that strides do not lose small images. A larger size gains nothing: a digit
    of 28 pixels enlarged to 224 costs five times as much as at 96.
    """
    median = float(np.median(np.minimum(table["width"], table["height"])))
    return max(SMALLEST_AUTO_SIZE, SIZE_STEP * math.ceil(2 * median / SIZE_STEP))


def _tap_file(taps: Sequence[str], name: str) -> Path:
    return Path(TAPS_FOLDER) / f"{list(taps).index(name):02d}-{name}.npy"
