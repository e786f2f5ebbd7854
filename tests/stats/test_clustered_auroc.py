"""The AUROC of groups: known values, and an interval that holds for groups as it does for images."""

import numpy as np
import pytest
from scipy.stats import norm

from graft.stats.clustered_auroc import clustered_auroc


def drawn(
    sizes: tuple[int, int], frames: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, which are positive, and groups: positives are higher by the deviation of a single score."""
    number = sum(sizes)
    groups = np.repeat(np.arange(number), frames)
    positive = groups < sizes[0]
    between, within = generator.normal(size=number)[groups], generator.normal(size=number * frames)
    return positive + (between + within) / np.sqrt(2), positive, groups


def test_ties_count_half() -> None:
    scores, positive = np.array([1.0, 1.0, 2.0, 0.0]), np.array([True, False, True, False])
    assert clustered_auroc(scores, positive, np.arange(4)).value == pytest.approx((0.5 + 1 + 1 + 1) / 4)


def test_independent_images_have_the_error_of_delong() -> None:
    scores, positive, groups = drawn((40, 60), 1, np.random.default_rng(0))
    above = (scores[positive][:, None] > scores[~positive]).astype(float)
    variance = above.mean(1).var(ddof=1) / 40 + above.mean(0).var(ddof=1) / 60
    value, low, high = clustered_auroc(scores, positive, groups)
    assert value == pytest.approx(above.mean())
    assert (high - low) / 2 == pytest.approx(2.023 * np.sqrt(variance), rel=0.02)


@pytest.mark.parametrize(("sizes", "frames"), [((10, 10), 8), ((6, 40), 8), ((40, 40), 1)])
def test_the_interval_covers_the_truth(sizes: tuple[int, int], frames: int) -> None:
    generator = np.random.default_rng(0)
    found = [clustered_auroc(*drawn(sizes, frames, generator)) for _ in range(400)]
    truth = norm.cdf(1 / np.sqrt(2))
    assert 0.92 <= np.mean([low <= truth <= high for _, low, high in found]) <= 0.99


def test_a_perfect_ranking_of_few_groups_is_no_proof() -> None:
    positive = np.repeat([True, False], 60)
    groups = np.repeat(np.arange(12), 10)
    assert clustered_auroc(positive.astype(float), positive, groups).low < 0.85
    assert clustered_auroc(positive.astype(float), positive, np.arange(120)).low > 0.95
    assert clustered_auroc(positive.astype(float), positive, np.minimum(groups, 6)) == (1.0, 0.0, 1.0)
