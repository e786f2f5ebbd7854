"""Overlap by class, agreement of outlines, and intervals: against what a ruler says."""

import numpy as np
import pytest

from graft.masks.scores import boundary_f, mean_interval, object_mean, overlap


def test_overlap_of_shifted_squares_is_what_a_ruler_says() -> None:
    truth, answer = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    truth[5:15, 5:15] = 1
    answer[5:15, 8:18] = 1
    found = overlap(truth, answer, 3)
    assert found.iou[1] == pytest.approx(70 / 130)
    assert found.dice[1] == pytest.approx(140 / 200)
    assert np.isnan(found.iou[2])
    assert object_mean(found.iou) == pytest.approx(70 / 130)


def test_ignored_pixels_do_not_count() -> None:
    truth = np.array([[1, 1, 255, 255]], np.uint8)
    assert overlap(truth, np.array([[1, 1, 0, 1]], np.uint8), 2).iou[1] == 1.0


def test_a_photo_of_nothing_is_right_without_an_answer_and_wrong_with_one() -> None:
    nothing, something = np.zeros((4, 4), np.uint8), np.eye(4, dtype=np.uint8)
    assert object_mean(overlap(nothing, nothing, 2).iou) == 1.0
    assert object_mean(overlap(nothing, something, 2).iou) == 0.0


def test_outlines_within_two_pixels_agree() -> None:
    truth = np.zeros((40, 40), np.uint8)
    truth[10:30, 10:30] = 1
    assert boundary_f(truth, np.roll(truth, 2, axis=1), 2) == pytest.approx(1.0)
    assert boundary_f(truth, np.roll(truth, 6, axis=1), 2) < 0.7
    assert boundary_f(truth, np.zeros_like(truth), 2) == 0.0


def test_an_interval_over_groups_is_wider_than_over_photos() -> None:
    values = np.repeat(np.random.default_rng(0).random(20), 10)
    photos = np.array([str(number) for number in range(200)], dtype=object)
    groups = np.repeat(np.array([str(number) for number in range(20)], dtype=object), 10)
    single, grouped = (mean_interval(values, of, 500, 0.95, 0) for of in (photos, groups))
    assert single.value == grouped.value == pytest.approx(values.mean())
    assert grouped.high - grouped.low > 2 * (single.high - single.low)
