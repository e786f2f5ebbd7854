"""Matched features have the source's mean and spread, also where the classes are not equally frequent."""

import numpy as np

from graft.adapt.standardisation import Match
from graft.heads.class_moments import ClassMoments
from tests.support.features import blobs


def test_another_camera_is_undone_exactly() -> None:
    features, targets = blobs(400, 10, 2)
    moments = ClassMoments.of(features, targets, 2)
    gain, offset = np.linspace(0.5, 2.0, 10), np.linspace(-3, 3, 10)
    seen = (features * gain + offset).astype(np.float32)
    match = Match.of(seen, moments, None, (10,))
    np.testing.assert_allclose(match.apply(seen), features, atol=1e-4)


def test_other_class_shares_are_not_taken_for_another_camera() -> None:
    features, targets = blobs(2000, 10, 2)
    moments = ClassMoments.of(features, targets, 2)
    rare = (targets == 0) | (np.arange(2000) % 10 == 1)  # class 1: one in five of its images
    seen, shares = features[rare] * 2 - 1, np.bincount(targets[rare]) / rare.sum()
    aware = Match.of(seen, moments, shares, (10,)).apply(seen)
    unaware = Match.of(seen, moments, None, (10,)).apply(seen)
    spread = features.std()
    assert np.abs(aware - features[rare]).max() < 0.2 * spread
    assert np.abs(unaware - features[rare]).max() > 0.5 * spread


def test_mean_and_scale_of_a_head_move_with_the_match() -> None:
    features, targets = blobs(100, 6, 2)
    match = Match.of(features * 3 + 1, ClassMoments.of(features, targets, 2), None, (6,))
    mean, scale = np.arange(6.0), np.linspace(1, 2, 6)
    raw = features.astype(np.float64)
    new_mean, new_scale = match.undone(mean, scale)
    np.testing.assert_allclose((raw - new_mean) / new_scale, (match.apply(raw) - mean) / scale)
