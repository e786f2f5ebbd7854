"""The paired difference: its error is that of a mean, of as many independent observations as there are groups."""

import numpy as np
import pytest

from graft.stats.paired_difference import mean_error, paired_difference


def test_the_paired_error_is_smaller_than_that_of_either() -> None:
    generator = np.random.default_rng(0)
    hard = generator.exponential(1, 500)
    gain, error = paired_difference(hard + 0.1, hard + generator.normal(0, 0.1, 500))
    assert gain == pytest.approx(0.1, abs=0.02)
    assert error < hard.std() / np.sqrt(500) / 3


def test_independent_images_have_the_ordinary_error_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(size=50)
    expected = values.std(ddof=1) / np.sqrt(50)
    assert mean_error(values) == pytest.approx(expected)
    assert mean_error(values, np.array([f"image {n}" for n in range(50)])) == pytest.approx(expected)


def test_copies_of_an_image_add_no_evidence() -> None:
    values = np.random.default_rng(0).normal(size=40)
    groups = np.repeat(np.arange(40), 5)
    assert paired_difference(np.repeat(values, 5), np.zeros(200), groups) == pytest.approx(
        paired_difference(values, np.zeros(40))
    )


def test_groups_of_unequal_size_have_the_error_that_draws_show() -> None:
    generator = np.random.default_rng(0)
    sizes = np.tile([1, 4, 15], 30)
    groups = np.repeat(np.arange(90), sizes)
    draws = np.array([generator.normal(size=90)[groups] + generator.normal(size=len(groups)) for _ in range(400)])
    errors = [mean_error(values, groups) for values in draws]
    assert np.mean(errors) == pytest.approx(draws.mean(axis=1).std(), rel=0.1)


def test_one_group_tells_nothing_about_its_own_error() -> None:
    assert paired_difference(np.ones(5), np.zeros(5), np.zeros(5)) == (1.0, np.inf)
    with pytest.raises(ValueError, match="at least one image"):
        paired_difference(np.ones(0), np.ones(0))
