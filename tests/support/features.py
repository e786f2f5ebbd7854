"""Features and targets made for tests of heads."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from graft.backbones.feature_store import FeatureSpec, FeatureStore, write_features


def blobs(n: int, d: int, classes: int, seed: int = 0, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return features (n, d) that scatter around a centre of each class, and the targets (n,)."""
    generator = np.random.default_rng(seed)
    targets = np.arange(n) % classes
    centres = generator.normal(0, 1, (classes, d))
    features = 5 + 3 * (centres[targets] + noise * generator.normal(0, 1, (n, d)))
    return features.astype(np.float32), targets.astype(np.int64)


def write_store(
    folder: Path, taps: Mapping[str, np.ndarray], targets: np.ndarray, groups: np.ndarray | None = None
) -> FeatureStore:
    """Write the features (n, D) of each tap for images of classes c0, c1, ...: of 8 images 6 train, 1 val, 1 test.

    Args:
        folder: of the store.
        taps: by name.
        targets: class indices, (n,).
        groups: one number per image, (n,); None: every image is a group of its own.
    """
    table = pd.DataFrame(
        {
            "id": [f"{i:064x}" for i in range(len(targets))],
            "path": [f"{i}.png" for i in range(len(targets))],
            "label": [f"c{target}" for target in targets],
            "split": ["test" if i % 8 == 7 else "val" if i % 8 == 6 else "train" for i in range(len(targets))],
            "group": [str(i) for i in (range(len(targets)) if groups is None else groups)],
        }
    )
    classes = tuple(f"c{label}" for label in range(max(2, int(targets.max()) + 1)))
    backbone = {"groups": list(taps), "widths": [tap.shape[1] for tap in taps.values()]}
    spec = FeatureSpec(backbone=backbone, operations=1, fingerprint="f", dataset_digest="d", classes=classes)
    for written, values in zip(write_features(folder, spec, table), taps.values(), strict=True):
        written[:] = values
        written.flush()
    return FeatureStore.read(folder)


def noisy_tap(targets: np.ndarray, signal: float, seed: int, width: int = 6) -> np.ndarray:
    """Return float32 features (n, width): unit noise, and a mean of `signal` for class 1, of `-signal` for class 0."""
    noise = np.random.default_rng(seed).normal(0, 1, (len(targets), width))
    return (noise + signal * (2 * targets[:, None] - 1)).astype(np.float32)
