"""Two ways to the same counts: both give exactly the same numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.stats import ranking_metrics
from graft.stats.confidence_intervals import resamples
from graft.stats.ranking_metrics import precision_area, rankings, roc_area


def problem(size: int, classes: int, seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets and scores of so many levels: the fewer, the more of them tie."""
    generator = np.random.default_rng(seed)
    scores = np.round(generator.random((size, classes)) * levels) + 1
    return generator.integers(0, classes, size), scores / scores.sum(axis=1, keepdims=True)


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(2, 80),
    classes=st.integers(2, 40),
    seed=st.integers(0, 1000),
    levels=st.sampled_from([0, 2, 1000]),
    whole=st.booleans(),
)
def test_product_and_running_sum_agree(size: int, classes: int, seed: int, levels: int, whole: bool) -> None:
    targets, scores = problem(size, classes, seed, levels)
    (counts,) = resamples(np.arange(size), targets, 7, seed)
    counted = counts if whole else counts * 0.5 + 0.1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking_metrics, "ROWS", 8)
        product = list(rankings(targets, scores, counted, range(classes)))
        patch.setattr(ranking_metrics, "FEW", 0)
        running = list(rankings(targets, scores, counted, range(classes)))
    assert len(product) == len(running) == classes
    for one, other in zip(product, running, strict=True):
        for name, found in one._asdict().items():
            np.testing.assert_allclose(found, getattr(other, name), rtol=0, atol=0 if whole else 1e-9, err_msg=name)


def test_areas_by_hand() -> None:
    targets, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])
    (found,) = rankings(targets, np.stack([1 - scores, scores], axis=1), np.ones((1, 4)), [1])
    assert roc_area(found)[0] == pytest.approx(3 / 4)
    assert precision_area(found)[0] == pytest.approx((1 + 2 / 3) / 2)


def test_a_class_without_images_has_no_area() -> None:
    targets, scores = np.array([0, 0]), np.array([[0.6, 0.4], [0.7, 0.3]])
    (found,) = rankings(targets, scores, np.ones((3, 2)), [1])
    with np.errstate(invalid="ignore"):
        assert np.isnan(roc_area(found)).all()
        assert np.isnan(precision_area(found)).all()
