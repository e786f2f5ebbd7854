"""Intervals at the boundary: a perfect result on a few images is as uncertain as Wilson says."""

import numpy as np
import pytest

from graft.stats.confidence_intervals import wilson
from graft.stats.metrics import METRICS, metrics_for
from graft.stats.model_comparison import compare
from graft.stats.resampled_metrics import metric_intervals
from graft.stats.unseen_mistakes import auroc_limits

BOUNDED = ("balanced_accuracy", "macro_f1", "auroc", "average_precision")


def perfect(*counts: int, sure: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    targets = np.repeat(np.arange(len(counts)), counts)
    probabilities = np.full((len(targets), len(counts)), (1 - sure) / (len(counts) - 1))
    probabilities[np.arange(len(targets)), targets] = sure
    return targets, probabilities


@pytest.mark.parametrize("counts", [(4, 4), (1, 1), (1, 30), (2, 2, 2), (1,) * 7, (10, 10)])
def test_all_right_is_at_most_as_certain_as_wilson_says(counts: tuple[int, ...]) -> None:
    targets, probabilities = perfect(*counts)
    found = metric_intervals(targets, probabilities, metrics=metrics_for(len(counts)), count=50)
    accuracy = wilson(len(targets), len(targets))
    for name in BOUNDED:
        assert found[name].value == 1.0
        assert found[name].high == 1.0
        assert found[name].low <= accuracy.low + (1e-9 if name in ("balanced_accuracy", "macro_f1") else 0.15), name
        assert found[name].low > 0.1, name


def test_the_recall_of_one_class_has_the_interval_of_wilson() -> None:
    targets, probabilities = perfect(5, 100_000 // 100)
    found = metric_intervals(targets, probabilities, metrics={"balanced_accuracy": METRICS["balanced_accuracy"]})
    assert found["balanced_accuracy"].low == pytest.approx(1 - (1 - wilson(5, 5).low) / 2, abs=1e-3)


def test_a_rare_class_makes_its_metrics_uncertain_and_a_large_one_does_not() -> None:
    few, many = (
        metric_intervals(*perfect(1, others), metrics=METRICS, count=50)["balanced_accuracy"] for others in (5, 500)
    )
    assert few.low == pytest.approx(many.low, abs=0.08)
    assert metric_intervals(*perfect(500, 500), count=50)["balanced_accuracy"].low > 0.99


def test_images_of_one_group_count_as_one() -> None:
    targets, probabilities = perfect(20, 20)
    grouped = metric_intervals(targets, probabilities, np.arange(40) // 10, count=50)
    two_each = metric_intervals(*perfect(2, 2), count=50)
    for name in BOUNDED:
        assert grouped[name].low == pytest.approx(two_each[name].low, abs=1e-6), name


def test_all_wrong_has_an_upper_limit() -> None:
    targets, probabilities = perfect(6, 6)
    found = metric_intervals(targets, probabilities[:, ::-1], count=50)
    assert found["balanced_accuracy"].value == found["balanced_accuracy"].low == 0.0
    assert found["balanced_accuracy"].high == pytest.approx(wilson(0, 6).high / np.sqrt(2), abs=0.01)
    assert found["auroc"].high > 0.2


def test_top_three_of_many_classes() -> None:
    found = metric_intervals(*perfect(*[2] * 8), metrics=metrics_for(8), count=50)["top_3_accuracy"]
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low < 0.9


def test_limits_of_the_auroc() -> None:
    assert auroc_limits(1.0, 8, 8)[0] == pytest.approx(0.757, abs=2e-3)
    assert auroc_limits(0.0, 8, 8) == pytest.approx((0.0, 0.243), abs=2e-3)
    assert auroc_limits(0.5, 200, 200) == pytest.approx((0.443, 0.557), abs=5e-3)
    assert auroc_limits(1.0, 1, 1) == pytest.approx((wilson(1, 1).low, 1.0), abs=1e-6)


def test_two_images_prove_nothing_and_many_do() -> None:
    def better(images: int) -> dict[str, bool]:
        targets, model = perfect(images, images)
        guess = np.tile([0.5 + 1e-6, 0.5 - 1e-6], (2 * images, 1))
        found = compare(targets, model, guess, count=50)
        return {name: found.differences[name].low > 0 for name in BOUNDED}

    assert not any(better(1).values())
    assert not any(better(2).values())
    assert all(better(30).values())


def test_without_images_of_two_classes_there_is_nothing_to_rank() -> None:
    for label in (0, 1):
        targets = np.full(6, label)
        found = metric_intervals(targets, perfect(3, 3)[1], count=50)
        assert np.isnan(found["auroc"]).all()
        assert np.isnan(found["average_precision"]).all()
        assert not np.isnan(found["balanced_accuracy"]).any()


def test_more_classes_than_are_ranked() -> None:
    targets, probabilities = perfect(*[1] * 120)
    found = metric_intervals(targets, probabilities, metrics=metrics_for(120), count=20)
    for name in BOUNDED:
        assert 0.8 < found[name].low < 0.97, name
