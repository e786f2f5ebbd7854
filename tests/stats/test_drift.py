import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.stats.drift import PredictionSample, cumulative, detect_drift, distribution_shift, label_shift, ood_shift


def seen(
    size: int, seed: int, answers: tuple[float, ...] = (0.5, 0.5), sure: float = 8.0, ood_score: float = 0.8
) -> PredictionSample:
    generator = np.random.default_rng(seed)
    return PredictionSample(
        generator.choice(len(answers), size, p=answers),
        generator.beta(sure, 2.0, size),
        generator.normal(ood_score, 0.1, size),
    )


def test_more_of_the_same_is_no_drift() -> None:
    for seed in range(20):
        drift = detect_drift(seen(200, seed), seen(300, 1000 + seed), 2)
        assert not drift.drifted
        assert (drift.images, drift.reference) == (300, 200)


@pytest.mark.parametrize(
    ("name", "now"),
    [
        ("labels", seen(300, 1, answers=(0.8, 0.2))),
        ("confidence", seen(300, 1, sure=2.0)),
        ("features", seen(300, 1, ood_score=1.05)),
    ],
)
def test_a_planted_change_is_found_and_named(name: str, now: PredictionSample) -> None:
    drift = detect_drift(seen(300, 0), now, 2)
    assert drift.drifted
    moved = {part for part in ("labels", "confidence", "features") if getattr(drift, part).drifted}
    assert moved == {name}


def test_without_a_reference_only_out_of_distribution_images_are_detected() -> None:
    usual = detect_drift(None, seen(300, 0), 2)
    assert (usual.labels, usual.confidence, usual.drifted) == (None, None, False)
    strange = detect_drift(None, seen(300, 0, ood_score=1.15), 2)
    assert strange.drifted
    assert strange.foreign is not None
    assert strange.foreign > 0.8


def test_a_model_without_a_detector_reports_no_out_of_distribution_images() -> None:
    now = seen(100, 0)
    drift = detect_drift(seen(100, 1), PredictionSample(now.answers, now.confidences), 2)
    assert (drift.features, drift.foreign) == (None, None)
    assert drift.json()["features"] is None


def test_a_trifle_is_no_drift_however_many_images_show_it() -> None:
    shift = label_shift(np.repeat([0, 1], [50_000, 50_000]), np.repeat([0, 1], [52_000, 48_000]), 2)
    assert shift.p_value < 1e-6
    assert not shift.drifted


def test_one_class_alone_is_alike() -> None:
    assert label_shift(np.zeros(5, np.int64), np.zeros(9, np.int64), 4).distance == 0.0


def test_false_alarms_of_the_threshold_are_no_drift() -> None:
    assert not ood_shift(0.02, 100, 0.01).drifted
    assert ood_shift(0.2, 100, 0.01).drifted


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_distances_are_symmetric_and_between_0_and_1(one: list[float], other: list[float]) -> None:
    there, back = (distribution_shift(np.array(a), np.array(b)) for a, b in ((one, other), (other, one)))
    assert 0 <= there.distance <= 1
    assert there.distance == pytest.approx(back.distance)
    assert distribution_shift(np.array(one), np.array(one)).distance == 0


def test_the_drawn_curve_ends_at_the_largest_value() -> None:
    x, y = cumulative(np.array([3.0, 1.0, 2.0]))
    assert (x[0], x[-1], y[0], y[-1]) == (1.0, 3.0, 0.0, 1.0)
