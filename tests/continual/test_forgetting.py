import numpy as np
import pytest

from graft.continual.exam import UNASKED, Exam
from graft.continual.forgetting import accuracy_matrix, measure_forgetting, summaries


def exam_with(answers: list[list[int]], experience: list[int], groups: list[int] | None = None) -> Exam:
    m = len(experience)
    return Exam(
        np.zeros((m, 1), np.float32),
        np.array([f"c{j}" for j in experience]),
        np.array(experience, np.int64),
        np.ones(m, np.bool_),
        np.array(range(m) if groups is None else groups, np.uint64),
        np.arange(m, dtype=np.uint64),
        np.array(answers, np.uint8),
    )


HAND = exam_with(
    [
        # experience 0: four images; 1: two; 2: five
        [1, 1, 1, 1, 1, 0, *[UNASKED] * 5],
        [1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0],
        [1, 0, 0, 0, 1, 0, 1, 1, 1, 1, 0],
    ],
    [0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2],
)


def test_a_matrix_computed_by_hand() -> None:
    nan = np.nan
    np.testing.assert_array_equal(accuracy_matrix(HAND), [[1.0, 0.5, nan], [0.75, 1.0, 0.2], [0.25, 0.5, 0.8]])
    found = measure_forgetting(HAND)
    assert found.counts.tolist() == [4, 2, 5]
    assert found.acc.value == pytest.approx((0.25 + 0.5 + 0.8) / 3)
    assert found.bwt.value == pytest.approx(((0.25 - 1.0) + (0.5 - 1.0)) / 2)
    assert found.forgetting.value == pytest.approx(((1.0 - 0.25) + (1.0 - 0.5)) / 2)
    assert found.fwt.value == pytest.approx(((0.5 - 1 / 2) + (0.2 - 1 / 3)) / 2)


def test_what_is_known_before_it_is_learnt_cannot_be_forgotten() -> None:
    matrix = np.array([[0.9, 0.8], [0.9, 0.6]])
    found = summaries(matrix, np.array([1.0, 0.5]))
    assert found["forgetting"] == pytest.approx(0.0)
    assert found["fwt"] == pytest.approx(0.3)


def test_one_experience_has_an_accuracy_and_nothing_to_forget() -> None:
    found = measure_forgetting(exam_with([[1, 0, 1, 1]], [0, 0, 0, 0])).json()
    assert found["matrix"] == [[0.75]]
    assert found["acc"]["value"] == 0.75
    assert found["forgetting"] == {"value": None, "low": None, "high": None}
    assert measure_forgetting(Exam.empty(2)).json()["acc"]["value"] is None


def test_intervals_cover_the_truth_and_widen_with_groups() -> None:
    """Accuracy 0.7 on 40 groups of 5 images that are all right or all wrong: the interval must know the groups."""
    generator = np.random.default_rng(0)
    covered, widths = 0, []
    for _ in range(60):
        of_group = generator.random(40) < 0.7
        row = np.repeat(of_group, 5).astype(int).tolist()
        found = measure_forgetting(
            exam_with([row], [0] * 200, np.repeat(np.arange(40), 5).tolist()), count=200, seed=1
        ).acc
        covered += found.low <= 0.7 <= found.high
        widths.append(found.high - found.low)
    assert 50 <= covered <= 60
    independent = measure_forgetting(exam_with([row], [0] * 200), count=200).acc
    assert np.mean(widths) > 1.8 * (independent.high - independent.low)
