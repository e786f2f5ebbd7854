"""Metrics in resamples: every interval contains its estimate, classes are sampled, memory and time stay small."""

import time

import numpy as np
import pytest

from graft.stats import confidence_intervals
from graft.stats.metrics import METRICS, MOST_RANKED, ranked_in_resamples
from graft.stats.resampled_metrics import metric_intervals, resampled_metrics
from tests.support.growth import growth


def simulated(size: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes, size)
    logits = generator.normal(size=(size, classes))
    logits[np.arange(size), targets] += 2
    probabilities = np.exp(logits)
    return targets, probabilities / probabilities.sum(axis=1, keepdims=True)


def test_every_interval_contains_its_estimate_and_stays_in_range() -> None:
    for size, classes in ((60, 2), (90, 4)):
        found = metric_intervals(*simulated(size, classes), count=200)
        assert list(found) == list(METRICS)
        for name, (value, low, high) in found.items():
            assert low <= value <= high, name
            assert low < high, name
            assert low >= 0, name
            assert high <= 1 or name in {"log_loss", "brier"}, name
    assert metric_intervals(*simulated(60, 2), count=200) == metric_intervals(*simulated(60, 2), count=200)


def test_an_empty_split_has_undefined_scores() -> None:
    found = metric_intervals(np.zeros(0, dtype=np.int64), np.zeros((0, 3)))
    assert found["accuracy"].json() == {"value": None, "low": None, "high": None}


def test_a_sample_of_many_images_gives_the_interval_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, probabilities = simulated(4000, 3)
    groups = np.arange(4000) // 2
    names = ("log_loss", "auroc", "ece", "macro_f1")
    metrics = {name: METRICS[name] for name in names}
    whole = metric_intervals(targets, probabilities, groups, metrics=metrics, count=600)
    monkeypatch.setattr(confidence_intervals, "MOST_RESAMPLED", 1000)
    part = metric_intervals(targets, probabilities, groups, metrics=metrics, count=600)
    for name in names:
        assert part[name].value == whole[name].value
        assert part[name].low <= part[name].value <= part[name].high
        wide, narrow = (interval.high - interval.low for interval in (part[name], whole[name]))
        assert wide == pytest.approx(narrow, rel=0.3), name


@pytest.mark.slow
def test_memory_does_not_grow_with_resamples_times_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confidence_intervals, "CHUNK_CELLS", 10_000)

    def over(size: int):
        answers = simulated(size, 3)
        return lambda: metric_intervals(*answers, count=200)

    assert growth(over, 1000, 4000) < 400


def test_ten_thousand_images_take_seconds() -> None:
    targets, probabilities = simulated(10_000, 10)
    start = time.process_time()
    metric_intervals(targets, probabilities)
    assert time.process_time() - start < 15


def test_many_classes_are_represented_by_some_and_give_no_narrower_an_interval() -> None:
    classes, generator = 120, np.random.default_rng(0)
    targets = np.repeat(np.arange(classes), 6)
    scores = generator.normal(size=(len(targets), classes)) + 1.5 * np.eye(classes)[targets]
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    metrics = {"auroc": METRICS["auroc"]}

    def measured():
        return resampled_metrics(targets, probabilities, None, targets, metrics=metrics, count=300, seed=0)

    assert len(ranked_in_resamples(classes)) == MOST_RANKED
    sampled = measured()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graft.stats.metrics.MOST_RANKED", classes)
        everything = measured()
    assert sampled.values["auroc"] == everything.values["auroc"]
    wide, narrow = (one.interval("auroc", 0.95) for one in (sampled, everything))
    assert narrow.high - narrow.low < wide.high - wide.low < 3 * (narrow.high - narrow.low)


def test_ranking_metrics_share_a_ranking_and_stay_what_they_are() -> None:
    targets, probabilities = simulated(60, 4)
    found = resampled_metrics(targets, probabilities, None, targets, metrics=METRICS, count=100, seed=0)
    weights = np.concatenate(list(confidence_intervals.resamples(np.arange(60), targets, 100, 0)))
    for name, metric in METRICS.items():
        assert found.values[name] == pytest.approx(float(metric(targets, probabilities, None)[0]))
        np.testing.assert_allclose(found.drawn[name], metric(targets, probabilities, weights), rtol=1e-12)
