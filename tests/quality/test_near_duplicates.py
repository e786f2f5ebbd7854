"""Near-duplicates: copies are found in any pose, other pictures and flat areas are not."""

import numpy as np

from graft.core.connected import component_labels
from graft.quality.near_duplicates import find_near_duplicates
from tests.support.pictures import random_luminance


def test_copies_are_found_and_others_are_not() -> None:
    signatures = random_luminance(200)
    noise = np.random.default_rng(1).normal(0, 3, signatures.shape)
    copies = np.clip(signatures * 0.8 + 10 + noise, 0, 255).astype(np.uint8)
    copies[100:] = copies[100:, :, ::-1]
    pairs = find_near_duplicates(np.concatenate([signatures, copies]), 0.985)
    assert pairs.first.tolist() == list(range(200))
    assert pairs.second.tolist() == list(range(200, 400))
    assert pairs.mirrored.tolist() == [False] * 100 + [True] * 100
    assert pairs.similarity.min() > 0.985


def test_flat_pictures_are_never_paired() -> None:
    flat = np.full((5, 32, 32), 200, np.uint8)
    flat[1:, 0, 0] = 201
    assert len(find_near_duplicates(flat, 0.9)) == 0
    assert len(find_near_duplicates(np.empty((0, 32, 32), np.uint8), 0.9)) == 0


def test_components_take_the_lowest_row() -> None:
    assert component_labels(5, np.array([3, 1]), np.array([1, 4])).tolist() == [0, 1, 2, 1, 1]
