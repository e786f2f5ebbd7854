"""Incremental extraction: only images with new content go through the backbone.

Cached features are found by the image's own digest, under the digest of everything that determines the features:
tensors, groups, transform and the code that runs them. If nothing is new, torch is not even imported.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.backbones.feature_cache import Features, cache_folder, library_versions, put, recall
from graft.backbones.feature_store import BACKBONE_FOLDER, FeatureSpec, FeatureStore, auto_image_size, write_features
from graft.backbones.own_model import SPEC_FILE, TENSORS_FILE, model_folder, own_backbone
from graft.backbones.runtime_choice import Backend, choose_backend
from graft.core.atomic import read_json, replacing, write_json
from graft.core.cache import VectorCache, cache_key, cache_root, kept_if_possible, usable
from graft.core.checksums import SUMS_FILE
from graft.core.digest import file_digest
from graft.core.errors import GraftError, ModelError
from graft.core.progress import progress
from graft.core.source_code import source_digest
from graft.data.dataset import ImageDataset
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.quantities import MOST_IMAGES_AT_ONCE

if TYPE_CHECKING:
    from graft.backbones.backbone import Backbone
    from graft.backbones.runtimes import Runtime
    from graft.imaging.transform import Transform

_FACTS_FILE = "facts.json"
_BUILDING_CODE = (
    "graft.backbones.backbone",
    "graft.backbones.own_model",
    "graft.backbones.pretrained_classifier",
    "graft.backbones.pretrained_labels",
)
_SEGMENT_IMAGES = 1024
_UNTUNED_BATCH = 4
_CUDA_BATCH = 64
_TUNING_PAYS = 512  # with fewer images, finding the best batch size takes longer than extracting


@dataclass(frozen=True)
class Extracted:
    """The result of an extraction."""

    store: FeatureStore
    backend: Backend
    """The one that computed the features, which is torch where the one asked for did not work."""
    new: int
    """Number of images that went through the backbone; the others were cached."""
    seconds: float
    """Time for the new images."""


def extract_into(
    folder: Path,
    dataset: ImageDataset,
    params: ExtractFeaturesParams,
    rows: Sequence[int] | None = None,
    own: "Backbone | None" = None,
) -> Extracted:
    """Write the features of the images of `dataset`, or of those in `rows`, to `folder`.

    Args:
        folder: of the features.
        dataset: the images.
        params: the backbone, and how to run it.
        rows: of the dataset; None: all.
        own: the backbone to run, in place of the one that `params` describes.

    Raises:
        ModelError: for an unknown backbone, weights that do not match, or a size the backbone cannot take.
        DataError: if an image cannot be decoded.
    """
    root = cache_root()
    folder.mkdir(parents=True, exist_ok=True)
    if own is None:
        backbone = _prepare_backbone(folder / BACKBONE_FOLDER, dataset, params, root)
    else:
        backbone = _write_backbone(folder / BACKBONE_FOLDER, own)
    spec = FeatureSpec(
        backbone_content=read_json(folder / BACKBONE_FOLDER / "backbone.json"),
        **read_json(folder / BACKBONE_FOLDER / _FACTS_FILE),
        dataset_digest=dataset.spec.digest,
        classes=dataset.classes,
        task=dataset.task,
        further_tasks=dataset.further_tasks,
    )
    chosen = range(len(dataset)) if rows is None else rows
    taps = write_features(folder, spec, dataset.table if rows is None else dataset.table.iloc[list(rows)])
    backend = choose_backend(params.backend, spec.operations * len(dataset))
    place = cache_folder(root, spec, backend)

    ids: list[str] = dataset.table["id"].tolist()
    places_of: dict[str, list[int]] = {}
    for at, row in enumerate(chosen):
        places_of.setdefault(ids[row], []).append(at)
    unknown = recall(place, places_of, taps)
    start = time.monotonic()
    if unknown:
        backbone = backbone or _load(folder / BACKBONE_FOLDER)
        runtime, workers = _start(backbone, backend, params, place)
        if runtime.backend != backend:  # features of another backend differ in the last digits: they are kept apart
            backend, place = runtime.backend, cache_folder(root, spec, runtime.backend)
            unknown = recall(place, places_of, taps)
    new = [chosen[at] for at in unknown]
    if new:
        transform = spec.backbone.transform
        computed = _compute(transform, runtime, workers, dataset, params, new, place)
        filled = sum(1 for _ in progress(_fill(taps, computed, places_of, ids), "extract_features", total=len(new)))
        if filled != len(new):
            raise ModelError(f"features of {filled:,} images were computed, but {len(new):,} were to be")
    seconds = time.monotonic() - start
    for tap in taps:
        tap.flush()  # type: ignore[attr-defined]
    return Extracted(FeatureStore.read(folder), backend, len(new), seconds)


def _prepare_backbone(
    folder: Path, dataset: ImageDataset, params: ExtractFeaturesParams, root: Path | None
) -> "Backbone | None":
    """Put the backbone into `folder`, from the cache or newly built; then it is returned."""
    backbone = None
    known = root / "backbones" / _backbone_key(dataset, params) if root else None
    if known and usable(known):
        shutil.copytree(known, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(SUMS_FILE))
    else:
        backbone = _build(folder, dataset, params)
        if known:
            with kept_if_possible(known), replacing(known) as temporary:
                shutil.copytree(folder, temporary)
    return backbone


def _build(folder: Path, dataset: ImageDataset, params: ExtractFeaturesParams) -> "Backbone":
    own = model_folder(params.weights)
    return _write_backbone(folder, _own(own, dataset, params) if own else _published(dataset, params))


def _own(model: Path, dataset: ImageDataset, params: ExtractFeaturesParams) -> "Backbone":
    asked = {"size": params.image_size, "mean": params.mean, "std": params.std}
    changes = {name: value for name, value in asked.items() if value not in (None, "auto")}
    channels, max_pixels = dataset.spec.channels, dataset.spec.max_pixels
    values = dataset.spec.value_range
    return own_backbone(model, params.backbone, channels, max_pixels=max_pixels, value_range=values, changes=changes)


def _published(dataset: ImageDataset, params: ExtractFeaturesParams) -> "Backbone":
    # Late: importing torch takes seconds, and a run with nothing new does not need it.
    from graft.backbones.backbone import build_backbone
    from graft.backbones.weights import find_architecture

    size = params.image_size if params.image_size != "auto" else None
    if size is None:
        native = find_architecture(params.backbone)
        if not native.fixed_size:
            size = min(native.transform.size, auto_image_size(dataset.table))
    return build_backbone(
        params.backbone,
        params.weights,
        image_size=size,
        channels=dataset.spec.channels,
        max_pixels=dataset.spec.max_pixels,
        value_range=dataset.spec.value_range,
        stem=params.stem,
        mean=params.mean,
        std=params.std,
        seed=params.seed,
    )


def _write_backbone(folder: Path, backbone: "Backbone") -> "Backbone":
    """Write a backbone, the output layer of its weights and what `FeatureSpec` says of it; return it."""
    from graft.backbones.backbone import save_backbone
    from graft.backbones.flops import count_operations

    folder.mkdir(parents=True, exist_ok=True)
    save_backbone(backbone, folder)
    if backbone.source:
        backbone.source.save(folder)
    facts = {"fingerprint": backbone.fingerprint(), "operations": sum(count_operations(backbone))}
    write_json(folder / _FACTS_FILE, facts)
    return backbone


def _load(folder: Path) -> "Backbone":
    from graft.backbones.backbone import load_backbone

    return load_backbone(folder)


def _backbone_key(dataset: ImageDataset, params: ExtractFeaturesParams) -> str:
    weights, own = Path(params.weights).expanduser(), model_folder(params.weights)
    files = [own / SPEC_FILE, own / TENSORS_FILE] if own else [weights] if weights.is_file() else []
    return cache_key(
        {
            "params": params.model_dump(mode="json", include={"backbone", "weights", "stem", "mean", "std", "seed"}),
            "channels": dataset.spec.channels,
            "max_pixels": dataset.spec.max_pixels,
            "value_range": dataset.spec.value_range,
            "image_size": [auto_image_size(dataset.table)] if params.image_size == "auto" else params.image_size,
            "weights": [file_digest(file, "sha256") for file in files],
            "libraries": library_versions(),
            "code": source_digest(*_BUILDING_CODE),
        }
    )


def _start(
    backbone: "Backbone", backend: Backend, params: ExtractFeaturesParams, place: Path | None
) -> tuple["Runtime", int]:
    """Return the runtime that computes features, and how many threads call it."""
    from graft.backbones.extraction import worker_count
    from graft.backbones.runtimes import start_runtime

    workers = worker_count(params.workers)
    return start_runtime(backbone, backend, workers, place and place / "converted"), workers


def _compute(
    transform: "Transform",
    runtime: "Runtime",
    workers: int,
    dataset: ImageDataset,
    params: ExtractFeaturesParams,
    rows: list[int],
    place: Path | None,
) -> Iterator[tuple[Sequence[int], Features]]:
    """Yield the features of `rows` batch by batch, and add them to the cache at `place`."""
    from graft.backbones.extraction import fastest_batch_size, pixel_loader, run_batches

    forward, pixels = runtime.forward, pixel_loader(transform, dataset)
    batch_size = params.batch_size
    if batch_size == "auto" and runtime.backend == "cuda":
        batch_size = _CUDA_BATCH
    elif batch_size == "auto":
        batch_size = _tuned(place, len(rows), lambda: fastest_batch_size(forward, pixels, rows))
    batches = run_batches(forward, pixels, rows, batch_size=batch_size, workers=workers)
    cache = VectorCache(place / "vectors") if place else None
    paths, ids = dataset.table["path"], dataset.table["id"]
    kept: list[tuple[Sequence[int], Features]] = []

    def keep() -> None:
        if cache is not None and kept:
            cache.add([ids.iloc[row] for part, _ in kept for row in part], np.concatenate([part for _, part in kept]))
        kept.clear()

    try:
        for batch, values in batches:
            finite = np.isfinite(values).all(axis=1)
            if not finite.all():
                path = paths.iloc[batch[int(np.argmin(finite))]]
                raise ModelError(f"{path}: the backbone's features are not finite; its weights may be broken")
            yield batch, values
            kept.append((batch, values))
            if len(kept) * len(batch) >= _SEGMENT_IMAGES:
                keep()
    finally:
        keep()  # also after a bad image or an interrupt: the next run continues from here


def _tuned(place: Path | None, images: int, measure: Callable[[], int]) -> int:
    """Return the batch size for this backbone on this machine, measured once for all runs."""
    known = place / "batch_size.json" if place else None
    if known and known.is_file():
        with suppress(GraftError, TypeError, ValueError):  # damaged: measured again
            if 1 <= (size := int(read_json(known))) <= MOST_IMAGES_AT_ONCE:
                return size
    if images < _TUNING_PAYS:
        return _UNTUNED_BATCH
    measured = measure()
    if known:
        with kept_if_possible(known):
            write_json(known, measured)
    return measured


def _fill(
    taps: list[Features],
    computed: Iterator[tuple[Sequence[int], Features]],
    places_of: dict[str, list[int]],
    ids: Sequence[str],
) -> Iterator[int]:
    """Write computed features to the places of each image and of its exact duplicates; yield the computed rows."""
    for batch, values in computed:
        pairs = [(place, at) for at, row in enumerate(batch) for place in places_of[ids[row]]]
        places, ats = zip(*pairs, strict=True)
        put(taps, places, values[list(ats)])
        yield from batch
