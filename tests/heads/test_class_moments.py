"""Class moments equal those of all images at once, in any order and any division, and survive a file."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from graft.core.errors import ModelError
from graft.core.row_blocks import ArrayRows
from graft.heads.class_moments import MOMENTS_FILE, ClassMoments
from tests.support.features import blobs

FEATURES, TARGETS = blobs(200, 12, 3)


def same(a: ClassMoments, b: ClassMoments) -> None:
    np.testing.assert_array_equal(a.counts, b.counts)
    np.testing.assert_allclose(a.means, b.means, rtol=1e-12)
    np.testing.assert_allclose(a.squares, b.squares, rtol=1e-10)


def test_they_are_those_of_numpy() -> None:
    found = ClassMoments.of(FEATURES, TARGETS, 4)
    wide = FEATURES.astype(np.float64)
    assert found.counts.tolist() == [67, 67, 66, 0]
    for label in range(3):
        np.testing.assert_allclose(found.means[label], wide[label == TARGETS].mean(0))
        np.testing.assert_allclose(found.variances[label], wide[label == TARGETS].var(0))
    assert not found.means[3].any()
    assert not found.squares[3].any()


def test_order_and_division_change_nothing() -> None:
    whole = ClassMoments.of(FEATURES, TARGETS, 3)
    order = np.random.default_rng(0).permutation(len(TARGETS))
    same(ClassMoments.of(FEATURES[order], TARGETS[order], 3), whole)
    # the first part contains a single class
    order, added = np.argsort(TARGETS, kind="stable"), ClassMoments.empty(3, 12)
    for part in np.array_split(order, 5):
        added = added.merged(ClassMoments.of(FEATURES[part], TARGETS[part], 3))
    same(added, whole)
    parts = tuple(np.array_split(FEATURES, 7))
    same(ClassMoments.of(ArrayRows(parts), TARGETS, 3), whole)


def test_a_large_mean_does_not_hide_a_small_variance() -> None:
    generator = np.random.default_rng(0)
    features = (1000 + 1e-2 * generator.standard_normal((4000, 3))).astype(np.float32)
    found = ClassMoments.of(ArrayRows(tuple(np.array_split(features, 50))), np.zeros(4000, np.int64), 1)
    np.testing.assert_allclose(found.variances[0], features.astype(np.float64).var(0), rtol=1e-9)


def test_images_without_a_class_do_not_count() -> None:
    unknown = np.arange(200) % 5 == 0
    found = ClassMoments.of(FEATURES, np.where(unknown, -1, TARGETS), 3)
    same(found, ClassMoments.of(FEATURES[~unknown], TARGETS[~unknown], 3))
    assert not ClassMoments.of(FEATURES, np.full(200, -1), 3).counts.any()


def test_the_mixture_is_that_of_images_with_these_shares() -> None:
    found, wide = ClassMoments.of(FEATURES, TARGETS, 3), FEATURES.astype(np.float64)
    mean, variance = found.mixed()
    np.testing.assert_allclose(mean, wide.mean(0))
    np.testing.assert_allclose(variance, wide.var(0))
    mean, variance = found.mixed(np.array([0.25, 0.75, 0.0]))
    weight = np.array([0.25, 0.75, 0.0])[TARGETS] / found.counts[TARGETS]
    np.testing.assert_allclose(mean, weight @ wide)
    np.testing.assert_allclose(variance, weight @ (wide - mean) ** 2)


def test_a_class_without_images_has_no_part_in_a_mixture() -> None:
    found = ClassMoments.of(FEATURES, TARGETS, 4)
    even, three = found.mixed(np.full(4, 0.25)), found.mixed(np.array([1, 1, 1, 0]) / 3)
    np.testing.assert_allclose(even, three)


def test_round_trip(tmp_path: Path) -> None:
    made = ClassMoments.of(FEATURES, TARGETS, 3)
    assert ClassMoments.load(tmp_path, (3, 12)) is None
    made.save(tmp_path)
    read = ClassMoments.load(tmp_path, (3, 12))
    assert read is not None
    for name in ("counts", "means", "squares"):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))


def test_broken_or_foreign_files_are_one_clear_line(tmp_path: Path) -> None:
    made = ClassMoments.of(FEATURES, TARGETS, 3)
    made.save(tmp_path)
    with pytest.raises(ModelError, match=r"moments\.safetensors: of \(3, 12\), expected \(3, 13\).*train again"):
        ClassMoments.load(tmp_path, (3, 13))
    arrays = {"counts": made.counts, "means": made.means, "squares": made.squares}
    for name, value in (("squares", -1.0), ("means", np.nan), ("counts", -1)):
        broken = {key: array.copy() for key, array in arrays.items()}
        broken[name].flat[0] = value
        (tmp_path / MOMENTS_FILE).write_bytes(safetensors.numpy.save(broken))
        with pytest.raises(ModelError, match=r"negative or not finite numbers; train the model again"):
            ClassMoments.load(tmp_path, (3, 12))
    for content in (b"cut short", safetensors.numpy.save({"counts": made.counts})):
        (tmp_path / MOMENTS_FILE).write_bytes(content)
        with pytest.raises(ModelError, match=r"moments\.safetensors: not readable \(.*\); train the model again"):
            ClassMoments.load(tmp_path, (3, 12))
