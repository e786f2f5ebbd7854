"""The output layer of a made-up pretrained network."""

import numpy as np

from graft.backbones.pretrained_classifier import SourceClassifier


def source_classifier(*names: tuple[str, ...], features: int = 4, seed: int = 0) -> SourceClassifier:
    """Return a classifier with random weights and one output for each tuple of label names."""
    generator = np.random.default_rng(seed)
    weight = generator.normal(0, 1, (len(names), features)).astype(np.float32)
    return SourceClassifier(names, weight, generator.normal(0, 1, len(names)).astype(np.float32))
