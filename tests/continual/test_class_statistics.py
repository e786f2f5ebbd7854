import numpy as np
import pytest

from graft.continual.class_statistics import ClassStatistics
from graft.core.errors import ModelError
from tests.support.features import blobs

FEATURES, TARGETS = blobs(300, 7, 5)
NAMES = np.array([f"c{target}" for target in TARGETS])


def assert_same(one: ClassStatistics, other: ClassStatistics, tolerance: float = 1e-9) -> None:
    assert one.labels == other.labels
    assert one.counts.tolist() == other.counts.tolist()
    np.testing.assert_allclose(one.means, other.means, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(one.scatter, other.scatter, rtol=tolerance, atol=tolerance * one.scatter.max())


def test_they_are_what_numpy_says() -> None:
    found = ClassStatistics.of(FEATURES, NAMES)
    x = FEATURES.astype(np.float64)
    centred = x - x.mean(axis=0)
    np.testing.assert_allclose(found.mean, x.mean(axis=0))
    np.testing.assert_allclose(found.total_scatter, centred.T @ centred)
    within = sum(np.cov(x[name == NAMES], rowvar=False, ddof=0) * (name == NAMES).sum() for name in found.labels)
    np.testing.assert_allclose(found.scatter, within)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_any_order_of_parts_gives_the_same_as_all_at_once(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(5)
    parts = [ClassStatistics.of(FEATURES[label == TARGETS], NAMES[label == TARGETS]) for label in order]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.merged(part)
    assert_same(whole, ClassStatistics.of(FEATURES, NAMES))


def test_images_can_be_taken_out_again_with_a_whole_class() -> None:
    gone = (TARGETS == 3) | (np.arange(300) % 7 == 0)
    left = ClassStatistics.of(FEATURES, NAMES).without(ClassStatistics.of(FEATURES[gone], NAMES[gone]))
    assert left.labels == ("c0", "c1", "c2", "c4")
    assert_same(left, ClassStatistics.of(FEATURES[~gone], NAMES[~gone]))


@pytest.mark.parametrize("label", ["c0", "stranger"])
def test_what_was_never_learnt_cannot_be_taken_out(label: str) -> None:
    known = ClassStatistics.of(FEATURES, NAMES)
    with pytest.raises(ModelError, match=r"never all in it|not those that were learnt"):
        known.without(ClassStatistics.of(FEATURES[:3] + 50, [label] * 3))
