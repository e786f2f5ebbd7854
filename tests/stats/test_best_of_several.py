"""How many independent variants the best of several that resemble one another is as lucky as."""

import numpy as np
import pytest

from graft.stats.best_of_several import equivalent_number

IMAGES = np.arange(300).astype(str)


def _gains(correlation: float, variants: int = 4, images: int = 300) -> np.ndarray:
    generator = np.random.default_rng(0)
    common, own = generator.normal(size=(images, 1)), generator.normal(size=(images, variants))
    return np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own


def test_variants_that_are_the_same_are_one() -> None:
    assert equivalent_number(_gains(1.0), IMAGES, 0.05) == pytest.approx(1.0, abs=0.25)


def test_independent_variants_are_as_many_as_they_are() -> None:
    assert equivalent_number(_gains(0.0), IMAGES, 0.05) == pytest.approx(4.0, abs=0.7)


def test_what_is_alike_lies_between() -> None:
    assert 1.2 < equivalent_number(_gains(0.9), IMAGES, 0.05) < 2.6


def test_images_of_a_group_count_once() -> None:
    gains, groups = _gains(0.5, images=60), np.arange(60).astype(str)
    repeated = equivalent_number(np.repeat(gains, 5, axis=0), np.repeat(groups, 5), 0.05)
    assert repeated == pytest.approx(equivalent_number(gains, groups, 0.05), abs=1e-9)


def test_one_variant_or_one_group_is_one() -> None:
    assert equivalent_number(_gains(0.5, 1), IMAGES, 0.05) == 1.0
    assert equivalent_number(_gains(0.5), np.zeros(300), 0.05) == 1.0
    assert equivalent_number(np.zeros((300, 4)), IMAGES, 0.05) == 1.0
