"""Paired comparisons: known p-values, false alarms, power, and what is reported without a detectable difference."""

import numpy as np
import pytest
from scipy.special import xlogy
from scipy.stats import binom, t

from graft.stats.metrics import METRICS
from graft.stats.model_comparison import compare, non_inferior, paired_rates

ACCURACY = {"accuracy": METRICS["accuracy"]}


def one_hot(right: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.eye(2)[np.where(right, targets, 1 - targets)] * 0.8 + 0.1


def rates(gained: int, lost: int, total: int, groups: np.ndarray | None = None):
    """The comparison of two models of which each alone is right on so many of these images."""
    place = np.arange(total)
    return paired_rates(place < gained, (place >= gained) & (place < gained + lost), groups)


@pytest.mark.parametrize(("gained", "lost", "total"), [(12, 2, 50), (0, 5, 40), (9, 7, 30), (0, 0, 25)])
def test_the_interval_inverts_the_score_test(gained: int, lost: int, total: int) -> None:
    critical = t.ppf(0.975, total - 1)
    found = rates(gained, lost, total).difference
    for limit in (found.low, found.high):
        # The share that the second model alone gets right, by maximum likelihood at this difference.
        below, above = max(0.0, -limit), (1 - abs(limit)) / 2 + max(0.0, -limit)
        grid = np.linspace(below, above, 400_001)[1:-1]
        likelihood = xlogy(gained, grid + limit) + xlogy(lost, grid)
        likelihood += (total - gained - lost) * np.log1p(-2 * grid - limit)
        share = grid[np.argmax(likelihood)]
        variance = total * (2 * share + limit - limit**2)
        assert abs(gained - lost - total * limit) / np.sqrt(variance) == pytest.approx(critical, rel=2e-3)


def test_interval_and_p_value_always_agree() -> None:
    for gained in range(12):
        for lost in range(12):
            found = rates(gained, lost, 40)
            excluded = found.difference.low > 0 or found.difference.high < 0
            assert excluded == (found.p_value < 0.05), (gained, lost)
    # Six images that only one model gets right, of sixteen: once shown as "+4.5 to +62.1" beside "p 0.070".
    found = compare(np.zeros(16, dtype=np.int64), *two_models(6, 0, 16), metrics=ACCURACY)
    assert found.differences["accuracy"].low > 0
    assert found.p_value < 0.05
    assert found.outcome == "better"


def two_models(gained: int, lost: int, total: int) -> tuple[np.ndarray, np.ndarray]:
    place, targets = np.arange(total), np.zeros(total, dtype=np.int64)
    return one_hot(place >= lost, targets), one_hot((place < lost) | (place >= gained + lost), targets)


def test_the_same_answers_are_called_identical_and_do_not_prove_equality() -> None:
    targets = np.arange(50) % 2
    model = one_hot(np.arange(50) > 4, targets)
    found = compare(targets, model, model, metrics=ACCURACY, count=200)
    assert found.outcome == "identical"
    assert found.differences["accuracy"].low < 0 < found.differences["accuracy"].high
    assert not non_inferior(found, 0.01)
    assert non_inferior(found, 0.1)
    # As often right, but on other images.
    other = one_hot(np.arange(50) < 45, targets)
    assert compare(targets, model, other, metrics=ACCURACY, count=200).outcome == "no detectable difference"


def test_a_clear_difference_is_named_in_both_directions() -> None:
    targets = np.arange(300) % 2
    good, bad = one_hot(np.arange(300) >= 15, targets), one_hot(np.arange(300) >= 75, targets)
    found = compare(targets, good, bad, count=300)
    assert found.outcome == "better"
    assert found.differences["accuracy"].value == pytest.approx(0.2)
    assert found.differences["log_loss"].high < 0
    assert (found.only_first_right, found.only_second_right) == (60, 0)
    assert compare(targets, bad, good, metrics=ACCURACY, count=300).outcome == "worse"


def test_equal_models_are_called_different_as_often_as_stated() -> None:
    generator = np.random.default_rng(0)
    alarms = sum(paired_rates(*(generator.random((2, 150)) < 0.9)).p_value < 0.05 for _ in range(400))
    assert alarms <= binom.ppf(0.999, 400, 0.05)


def test_equal_models_on_videos_are_called_different_as_often_as_stated() -> None:
    generator, groups = np.random.default_rng(1), np.repeat(np.arange(15), 20)
    alarms = 0
    for _ in range(400):
        # Which of the two is right depends on the video more than on the frame.
        video = generator.random(15)[groups]
        first, second = (side & (generator.random(300) < 0.8) for side in (video < 0.2, video > 0.8))
        alarms += paired_rates(first, second, groups).p_value < 0.05
    assert alarms <= binom.ppf(0.999, 400, 0.05)


@pytest.mark.parametrize(("total", "discordant"), [(150, 0.2), (400, 0.05), (400, 0.0)])
def test_a_detectable_difference_is_detected_four_times_in_five(total: int, discordant: float) -> None:
    changed = round(total * discordant / 2)
    smallest = rates(changed, changed, total).detectable
    share, generator, found = max(discordant, smallest), np.random.default_rng(2), 0
    for _ in range(400):
        drawn = generator.random(total)
        gains = drawn < (share + smallest) / 2
        found += paired_rates(gains, ~gains & (drawn < share)).p_value < 0.05
    # Where hardly any image differs, the formula is on the safe side.
    assert binom.ppf(0.001, 400, 0.75) <= found <= binom.ppf(0.999, 400, 0.88 if discordant else 0.97)


def test_one_group_does_not_count_as_many_images() -> None:
    targets = np.arange(200) % 2
    groups = np.where(np.arange(200) < 10, 0, np.arange(200))
    first, second = np.ones(200, dtype=bool), np.arange(200) >= 10
    alone = compare(targets, one_hot(first, targets), one_hot(second, targets), metrics=ACCURACY, count=300)
    grouped = compare(targets, one_hot(first, targets), one_hot(second, targets), groups, metrics=ACCURACY, count=300)
    assert alone.outcome == "better"
    assert grouped.outcome == "no detectable difference"
