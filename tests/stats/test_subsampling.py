"""A sample of many images: whole groups, every class's share, and the same whatever the order of rows."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.stats.subsampling import sample, selection_size


@given(
    groups=st.lists(st.integers(0, 60), min_size=80, max_size=200),
    most=st.integers(5, 60),
    salt=st.sampled_from(["0 choice", "1 choice"]),
)
@settings(max_examples=50, deadline=None)
def test_groups_stay_whole_and_order_does_not_matter(groups: list[int], most: int, salt: str) -> None:
    names = np.array([f"g{group}" for group in groups], dtype=object)
    targets = np.array([group % 3 for group in groups])
    rows = sample(targets, names, most, salt)
    assert set(names[rows]).isdisjoint(set(np.delete(names, rows)))
    assert (np.diff(rows) > 0).all()
    order = np.random.default_rng(0).permutation(len(groups))
    assert set(names[order][sample(targets[order], names[order], most, salt)]) == set(names[rows])
    assert set(targets[rows]) == set(targets)


def test_all_of_few() -> None:
    np.testing.assert_array_equal(sample(np.zeros(7, np.int64), list("abcdefg"), 7, ""), np.arange(7))


def test_classes_have_their_share_and_rare_ones_enough() -> None:
    targets = np.repeat([0, 1, 2], [6000, 3000, 12])
    names = [str(number) for number in range(len(targets))]
    counts = np.bincount(targets[sample(targets, names, 900, "x", per_class=10)])
    assert abs(counts[0] - 599) <= 1
    assert abs(counts[1] - 300) <= 1
    assert counts[2] == 10
    assert np.bincount(targets[sample(targets, names, 900, "x", per_class=100)])[2] == 12


def test_more_images_leave_most_of_a_sample_in_place() -> None:
    names = np.array([str(number) for number in range(4000)], dtype=object)
    targets = np.zeros(4000, np.int64)
    before = set(names[:2000][sample(targets[:2000], names[:2000], 500, "x")])
    after = set(names[sample(targets, names, 500, "x")])
    assert after & set(names[:2000]) <= before
    assert set(names[sample(targets, names, 500, "y")]) != after


def test_many_classes_need_more_images() -> None:
    assert selection_size(10) == 5000
    assert selection_size(1000) == 20_000
