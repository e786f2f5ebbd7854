"""Extraction shared among workers: each takes a part of the images, and the parts are joined into one FeatureStore.

A part is itself a FeatureStore of its worker's images, with a `part.json`. Only the dataset and the number of workers
decide on the images of a part, so a lost worker can be restarted alone. Parts begin at batch boundaries, so the
features are bit-identical to those of a single worker.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from graft.backbones.feature_store import BACKBONE_FOLDER, FeatureStore, write_features
from graft.backbones.incremental import Extracted, extract_into
from graft.backbones.runtime_choice import Backend
from graft.core.artifact import read_spec
from graft.core.atomic import write_json
from graft.core.errors import DataError, ParamsError
from graft.data.dataset import ImageDataset
from graft.params.extract_features import ExtractFeaturesParams

PART_FILE = "part.json"
_AUTO_BLOCK = 64  # a multiple of every batch size that `auto` may choose
_JOINED_ROWS = 4096  # copied at a time: memory does not grow with the images


class ShardParams(ExtractFeaturesParams):
    """The parameters of the complete extraction, and the part to extract.

    The two numbers are not recorded: the workers of a run share its parameters.
    """

    shard: int = Field(ge=0, lt=100_000, exclude=True, description="which part, from 0")
    shards: int = Field(ge=1, le=100_000, exclude=True, description="number of parts")


class PartSpec(BaseModel):
    """The metadata of a part; a part without images has nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    shard: int
    shards: int
    dataset_digest: str
    images: int
    backend: Backend | None = None
    new: int = 0
    seconds: float = 0.0


def rows_of_shard(ids: Sequence[str], shard: int, shards: int, block: int) -> npt.NDArray[np.int64]:
    """Return the rows of one part, ascending: complete blocks of images, without exact duplicates of earlier ones.

    Args:
        ids: the images' digests by row.
        shard: which part, from 0.
        shards: number of parts, which may exceed the number of blocks.
        block: images per block.
    """
    firsts = np.flatnonzero(~pd.Series(ids, dtype=object).duplicated().to_numpy())
    blocks = -(-len(firsts) // block)
    return firsts[blocks * shard // shards * block : blocks * (shard + 1) // shards * block].astype(np.int64)


def extract_part(folder: Path, dataset: ImageDataset, params: ShardParams) -> PartSpec:
    """Write one part of the features of `dataset` to `folder`.

    Raises:
        ModelError: for an unknown backbone, weights that do not match, or a size the backbone cannot take.
        DataError: if an image cannot be decoded, or there is no such part.
        ParamsError: if the backbone is `auto`.
    """
    if params.backbone == "auto":
        raise ParamsError("extract_features.backbone='auto': workers that share the images need a named backbone")
    if params.shard >= params.shards:
        raise DataError(f"part {params.shard} of {params.shards}: no such part; parts are counted from 0")
    block = _AUTO_BLOCK if params.batch_size == "auto" else params.batch_size
    rows = rows_of_shard(dataset.table["id"].tolist(), params.shard, params.shards, block)
    spec = PartSpec(shard=params.shard, shards=params.shards, dataset_digest=dataset.spec.digest, images=len(rows))
    folder.mkdir(parents=True, exist_ok=True)
    if len(rows):
        made = extract_into(folder, dataset, params, rows.tolist())
        spec = spec.model_copy(update={"backend": made.backend, "new": made.new, "seconds": made.seconds})
    write_json(folder / PART_FILE, spec.model_dump(mode="json"))
    return spec


def join_parts(folder: Path, dataset: ImageDataset, parts: Sequence[Path]) -> Extracted:
    """Join the features of all parts in `folder`, in the order of `dataset`.

    Raises:
        DataError: if a part is missing, or the parts are not all of one backbone, one backend and this dataset.
    """
    specs = [
        read_spec(path / PART_FILE, PartSpec, content="part of the features", step="extract_shard") for path in parts
    ]
    _check_whole(specs, dataset)
    stores = [FeatureStore.read(path) for path, spec in zip(parts, specs, strict=True) if spec.images]
    if not stores:
        raise DataError("the dataset has no images")
    if any(store.spec != stores[0].spec for store in stores):
        raise DataError("the parts are of different backbones; extract them all with the same parameters and code")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(stores[0].backbone_folder, folder / BACKBONE_FOLDER)
    taps = write_features(folder, stores[0].spec, dataset.table)
    ends = np.cumsum([len(store) for store in stores])
    sources = _sources(dataset, stores)
    for store, end in zip(stores, ends, strict=True):
        start = end - len(store)
        rows = np.flatnonzero((sources >= start) & (sources < end))
        for chunk in np.array_split(rows, -(-len(rows) // _JOINED_ROWS)):
            for name, tap in zip(store.taps, taps, strict=True):
                tap[chunk] = store.tap(name)[sources[chunk] - start]
    for tap in taps:
        tap.flush()  # type: ignore[attr-defined]
    backend = next(spec.backend for spec in specs if spec.backend)
    new, seconds = sum(spec.new for spec in specs), max(spec.seconds for spec in specs)
    return Extracted(FeatureStore.read(folder), backend, new, seconds)


def _check_whole(specs: Sequence[PartSpec], dataset: ImageDataset) -> None:
    found = sorted((spec.shard, spec.shards) for spec in specs)
    shards = found[0][1] if found else 0
    if missing := sorted(set(range(shards)) - {shard for shard, _ in found}):
        raise DataError(f"part {missing[0]} of {shards} is missing; extract_shard makes it")
    if found != [(shard, shards) for shard in range(shards)]:
        raise DataError("the parts are from different divisions; extract them all with the same number of shards")
    if any(spec.dataset_digest != dataset.spec.digest for spec in specs):
        raise DataError("a part is of another dataset; extract it again")
    if len(backends := {spec.backend for spec in specs if spec.backend}) > 1:
        raise DataError(
            f"the parts were computed by {' and '.join(sorted(map(str, backends)))}, which differ in the last digits; "
            "set extract_features.backend to one that all workers have"
        )


def _sources(dataset: ImageDataset, stores: Sequence[FeatureStore]) -> npt.NDArray[np.int64]:
    """Return the position of each row's features in the concatenated stores."""
    codes, unique = pd.factorize(dataset.table["id"])
    held = pd.Index(np.concatenate([store.table["id"].to_numpy(dtype=object) for store in stores]))
    sources: npt.NDArray[np.int64] = held.get_indexer(pd.Index(unique))[codes].astype(np.int64)
    if (sources < 0).any():
        path = dataset.table["path"].iloc[int(np.argmin(sources))]
        raise DataError(f"{path}: not in any part; extract them again")
    return sources
