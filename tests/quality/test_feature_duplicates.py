"""Copies that features find and luminance confirms."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from graft.quality.feature_duplicates import confirm_pairs, find_candidates
from graft.quality.image_statistics import examine
from tests.support.encoded import scene


def signature(image: Image.Image) -> np.ndarray:
    from tests.support.encoded import encoded

    statistics = examine(encoded(image, "PNG")).statistics
    assert statistics is not None
    return np.frombuffer(statistics.signature, np.uint8).reshape(32, 32)


def test_candidates_are_near_and_of_other_groups() -> None:
    features = np.random.default_rng(0).normal(size=(300, 256))
    features[200] = features[3] * 1.5 + 0.01
    features[250] = features[100]
    features[270] = features[101]
    groups = np.arange(300)
    groups[270] = groups[101]
    first, second = find_candidates(features, groups)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [(3, 200), (100, 250)]


def test_many_copies_of_one_group_hide_no_other() -> None:
    features = np.random.default_rng(0).normal(size=(40, 256))
    features[1:20] = features[0]
    features[30] = features[0] + 0.1 * features[30]
    groups = np.arange(40)
    groups[:20] = 0
    first, second = find_candidates(features, groups)
    assert set(second.tolist()) == {30}
    assert 0 in first


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_pictures(n: int) -> None:
    first, second = find_candidates(np.eye(n, 4), np.arange(n))
    assert len(first) == len(second) == 0
    assert len(confirm_pairs(np.zeros((n, 32, 32), np.uint8), first, second, 0.9)) == 0


@pytest.mark.parametrize(
    ("change", "mirrored"),
    [
        (lambda image: image.crop((0, 0, 152, 114)), False),
        (lambda image: image.crop((16, 24, 144, 120)), False),
        (lambda image: ImageOps.mirror(image.crop((8, 0, 160, 114))), True),
        (lambda image: image.point(lambda value: int(value * 0.7) + 20), False),
    ],
)
def test_parts_mirror_images_and_changed_brightness(change, mirrored: bool) -> None:
    original = scene(1, 160, 120)
    signatures = np.stack([signature(original), signature(change(original)), signature(scene(2, 160, 120))])
    found = confirm_pairs(signatures, np.array([0, 0, 1]), np.array([1, 2, 2]), 0.92)
    assert (found.first.tolist(), found.second.tolist()) == ([0], [1])
    assert found.mirrored.tolist() == [mirrored]


def test_drawings_on_a_flat_background_need_more() -> None:
    drawings = np.full((3, 32, 32), 255, np.uint8)
    drawings[:2, 10:20, 15:17] = 0
    drawings[2, 10:20, 15:18] = 0
    found = confirm_pairs(drawings, np.array([0, 0]), np.array([1, 2]), 0.7)
    assert found.second.tolist() == [1]
