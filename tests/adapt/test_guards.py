"""Each guard is one number against one limit, with a sentence that holds both."""

import numpy as np
import pytest

from graft.adapt.guards import (
    agreement,
    agreement_guard,
    check_guard,
    class_gap_guard,
    images_guard,
    shift_guard,
)
from graft.params.adapt import AdaptParams
from graft.quality.dataset_shift import Shift

PARAMS = AdaptParams()
EVEN = np.full(4, 0.25)
LABELS = ("ant", "bee", "cat", "dog")


def _shift(low: float) -> Shift:
    return Shift("features", ("training", "target"), 0.7, low, 0.8)


def test_images() -> None:
    assert images_guard(50, PARAMS).passed
    few = images_guard(49, PARAMS)
    assert not few.passed
    assert few.sentence == "49 images, fewer than adapt.min_images=50"


def test_the_lower_bound_of_the_shift_counts() -> None:
    assert shift_guard(_shift(0.61), PARAMS).passed
    none = shift_guard(_shift(0.6), PARAMS)
    assert not none.passed
    assert none.sentence.startswith("These images look like the training images: AUROC 0.700, interval 0.600 to 0.800")


def test_class_shares() -> None:
    assert class_gap_guard(EVEN, np.array([0.35, 0.25, 0.25, 0.15]), LABELS, PARAMS).passed
    missing = class_gap_guard(EVEN, np.array([0.42, 0.4, 0.18, 0.0]), LABELS, PARAMS)
    assert not missing.passed
    assert missing.value == pytest.approx(0.32)
    assert missing.sentence.endswith("'ant' 25% in training and about 42% here, 'dog' 25% and about 0%")


def test_agreement_has_to_rise() -> None:
    assert agreement_guard(0.50, 0.55, PARAMS).passed
    less = agreement_guard(0.50, 0.54, PARAMS)
    assert not less.passed
    assert less.sentence.endswith("54.0% of the images after adaptation and on 50.0% before: +0.040, less than +0.05")
    first = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    assert agreement(first, first[:, ::-1]) == 0.0
    assert agreement(first, np.array([[0.6, 0.4], [0.3, 0.7], [0.1, 0.9]])) == pytest.approx(2 / 3)


def test_the_check_is_an_exact_test_of_the_answers_that_changed() -> None:
    before = np.zeros(30, np.bool_)
    now = before.copy()
    now[:6] = True
    better = check_guard(before, now)  # six of six: p = 2 / 64
    assert better.passed
    assert better.value == pytest.approx(2 / 64)
    now[5] = False
    few = check_guard(before, now)  # five of five: p = 2 / 32
    assert not few.passed
    assert few.value == pytest.approx(2 / 32)
    worse = check_guard(~before, before)
    assert not worse.passed
    assert "0 answers became right and 30 wrong" in worse.sentence
    assert not check_guard(before, before).passed
