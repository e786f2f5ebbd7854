"""PhotoMaps: the frozen backbone's maps of every photo and its mirror image.

Beside what all cached maps have:

- `objects.parquet`: the dataset's objects;
- `views.parquet`: one row per cached view (row, mirrored, size of the photo in it, place in the files);
- `maps/<i>-<group>.bin`: float16, view after view, each (c, h, w).

Photos keep their shape, so their maps differ in size. Only training photos have a mirrored view: its maps are not
those of the photo, mirrored.
"""

import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from graft.backbones.backbone import Backbone
from graft.core.artifact import read_spec
from graft.core.atomic import write_json
from graft.core.parquet import read_table, write_table
from graft.core.progress import progress
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
from graft.detectors.coco_start import keep_coco_heads
from graft.detectors.photo_pixels import MULTIPLE, Fit, padded, prepared
from graft.masks.mask_file import resized
from graft.objects.instance import Instance
from graft.objects.object_dataset import OBJECTS_FILE, ObjectDataset, read_objects
from graft.params.extract_features import ExtractFeaturesParams
from graft.tasks.pixels import IGNORED

VIEWS_FILE = "views.parquet"
SHORT_SIDE = 256
"""Pixels of a photo's short side if `extract_features.image_size` is auto."""
BATCH = 8


class View(NamedTuple):
    """The cached maps of a photo or its mirror image."""

    maps: list[torch.Tensor]
    """float32 (1, c, h, w), the finest first."""
    fit: Fit


@dataclass(frozen=True)
class PhotoMaps(CachedMaps[CachedMapsSpec]):
    """A read-only view of the artifact at `path`; the side of a level is that of a square photo."""

    views: pd.DataFrame

    @classmethod
    def read(cls, path: Path) -> "PhotoMaps":
        """Open the artifact that extract_features wrote.

        Raises:
            DataError: if the folder has no maps.
        """
        path = Path(path)
        spec = read_spec(path / SPEC_FILE, CachedMapsSpec, content="maps of photos", step="extract_features")
        return cls(path, spec, read_table(path / TABLE_FILE), read_table(path / VIEWS_FILE))

    @cached_property
    def objects(self) -> tuple[tuple[Instance, ...], ...]:
        """The objects of every photo, by row."""
        return read_objects(self.path, len(self.table))

    def view(self, row: int, *, mirrored: bool = False) -> View:
        """Return the maps of a photo, or of its mirror image, which training photos alone have."""
        place, fit = self._places[int(row), mirrored]
        maps = []
        for at, level in enumerate(self.spec.levels):
            begin, height, width = place[at]
            values = self._files[at][begin : begin + level.channels * height * width]
            found = torch.from_numpy(values.astype(np.float32))
            maps.append(found.view(1, level.channels, height, width))
        return View(maps, fit)

    def maps_of(self, row: int) -> list[npt.NDArray[np.float32]]:
        """Return the maps (c, h, w) of one photo."""
        return [level[0].numpy() for level in self.view(row).maps]

    def mask(self, row: int) -> npt.NDArray[np.uint8]:
        """Return what every pixel of the network's input belongs to, uint8 (h, w): 0 no object, 1 the first kind.

        Pixels of crowds and beside the photo are `IGNORED`; where objects overlap, the smaller one counts.
        """
        _, fit = self._places[int(row), False]
        mask = np.full(fit.padded, IGNORED, np.uint8)
        mask[: fit.height, : fit.width] = 0
        for one in sorted(self.objects[int(row)], key=lambda one: one.code.area, reverse=True):
            inside = resized(one.code.mask().astype(np.uint8), fit.height, fit.width) > 0
            mask[: fit.height, : fit.width][inside] = IGNORED if one.crowd else one.label + 1
        return mask

    @cached_property
    def _files(self) -> list[npt.NDArray[np.float16]]:
        return [
            np.memmap(self.path / _map_file(at, level), dtype=np.float16, mode="r")
            for at, level in enumerate(self.spec.levels)
        ]

    @cached_property
    def _places(self) -> dict[tuple[int, bool], tuple[list[tuple[int, int, int]], Fit]]:
        found = {}
        for one in self.views.to_dict("records"):
            sizes = [tuple(int(one[f"{name}_{at}"]) for name in _PLACE) for at in range(len(self.spec.levels))]
            fit = Fit(*(int(one[name]) for name in Fit._fields))
            found[int(one["row"]), bool(one["mirrored"])] = sizes, fit
        return found  # type: ignore[return-value]


_PLACE = ("begin", "height", "width")


@dataclass(frozen=True)
class ExtractedPhotoMaps:
    """The result of an extraction."""

    store: PhotoMaps
    seconds: float


def extract_photo_maps(folder: Path, dataset: ObjectDataset, params: ExtractFeaturesParams) -> ExtractedPhotoMaps:
    """Run the frozen backbone over every photo, and over every training photo mirrored.

    Raises:
        ModelError: for an unknown backbone, or one without maps of several resolutions.
        ParamsError: for a parameter that has no meaning for objects.
    """
    size = SHORT_SIDE if params.image_size == "auto" else params.image_size
    backbone = maps_backbone(dataset, params.model_copy(update={"image_size": size}))
    start = time.monotonic()
    store = write_photo_maps(folder, dataset, backbone, np.arange(len(dataset)))
    keep_coco_heads(params, store.spec.levels, folder)
    return ExtractedPhotoMaps(store, time.monotonic() - start)


def write_photo_maps(
    folder: Path, dataset: ObjectDataset, backbone: Backbone, rows: npt.NDArray[np.int64]
) -> PhotoMaps:
    """Write the maps that a backbone gives for some photos of a dataset, and for the training photos mirrored.

    Raises:
        ModelError: if the backbone has no maps of several resolutions.
    """
    levels = find_levels(backbone, math.ceil(backbone.spec.transform.size / MULTIPLE) * MULTIPLE)
    begin_maps(folder, dataset, backbone)
    shutil.copy(dataset.path / OBJECTS_FILE, folder)
    files = [(folder / _map_file(at, level)).open("wb") for at, level in enumerate(levels)]
    begins = [0] * len(levels)
    views = []
    try:
        for row, mirrored, fit, maps in _computed(backbone, levels, dataset, rows):
            one = {"row": row, "mirrored": mirrored, **fit._asdict()}
            for at, found in enumerate(maps):
                values = np.clip(found.numpy(), -6e4, 6e4).astype(np.float16)
                one |= dict(zip([f"{name}_{at}" for name in _PLACE], (begins[at], *found.shape[-2:]), strict=True))
                begins[at] += values.size
                files[at].write(values.tobytes())
            views.append(one)
    finally:
        for file in files:
            file.close()
    write_table(folder / VIEWS_FILE, pd.DataFrame(views))
    spec = CachedMapsSpec(**described(dataset, backbone, levels))
    write_json(folder / SPEC_FILE, spec.model_dump(mode="json", by_alias=True))
    return PhotoMaps.read(folder)


def _computed(
    backbone: Backbone, levels: tuple[Level, ...], dataset: ObjectDataset, rows: npt.NDArray[np.int64]
) -> Iterator[tuple[int, bool, Fit, list[torch.Tensor]]]:
    transform = backbone.spec.transform
    trunk = Trunk(backbone, tuple(level.group for level in levels)).eval()
    train = set(dataset.rows("train").tolist())
    decoded = ahead(lambda row: prepared(dataset.photos[row], transform), rows.tolist(), BATCH)
    photos = progress(decoded, "extract_features", len(rows), unit="photos")
    for row, (pixels, fit) in zip(rows.tolist(), photos, strict=True):
        # one view at a time: what is computed together may differ in the last digit from what a server computes
        for mirrored in (False, True) if row in train else (False,):
            whole = padded(pixels.flip(-1) if mirrored else pixels, transform, fit)
            with torch.inference_mode():
                yield row, mirrored, fit, trunk(transform.normalise(whole[None]))


def _map_file(at: int, level: Level) -> Path:
    return Path(MAPS_FOLDER) / f"{at:02d}-{level.group}.bin"
