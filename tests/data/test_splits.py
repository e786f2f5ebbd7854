"""Splits: given ones stay; others depend on a group's own name alone, so that growing data moves nothing."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from graft.data.splits import LEAST_KEPT, Assigned, assign_splits, group_rows

NONE = np.empty(0, np.int64)


def ids(n: int) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(n)]


def assigned(
    labels: list[str], groups: list[str], given: list[str | None] | None = None, **fractions: float
) -> Assigned:
    asked = {"val_fraction": 0.2, "test_fraction": 0.2, "seed": 0} | fractions
    return assign_splits(labels, groups, given or [None] * len(labels), **asked)  # type: ignore[arg-type]


def split(labels: list[str], groups: list[str], given: list[str | None] | None = None, **fractions: float) -> list[str]:
    return list(assigned(labels, groups, given, **fractions).splits)


def test_each_split_has_about_its_share_of_every_label() -> None:
    labels = ["a"] * 2000 + ["b"] * 500
    counts = Counter(zip(labels, split(labels, ids(2500)), strict=True))
    for label, number in Counter(labels).items():
        for name, share in (("test", 0.2), ("val", 0.8 * 0.2), ("train", 0.8 * 0.8)):
            assert 0.001 < binom.cdf(counts[label, name], number, share) < 0.999, (label, name)


def test_given_splits_stay_and_validation_is_drawn_from_train() -> None:
    given: list[str | None] = ["train"] * 200 + ["test"] * 50
    found = split(["a"] * 250, ids(250), given)
    assert found[200:] == ["test"] * 50
    assert set(found[:200]) == {"train", "val"}
    assert 20 < Counter(found)["val"] < 60
    everything: list[str | None] = ["train", "val", "test"]
    assert split(["a"] * 3, ids(3), everything) == everything


def test_the_seed_changes_the_draw() -> None:
    first, second = (split(["a"] * 40, ids(40), seed=seed) for seed in (0, 1))
    assert first != second


ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), min_size=1, max_size=80)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, order=st.randoms(use_true_random=False))
def test_order_does_not_matter_and_groups_stay_whole(rows: list[tuple[str, int]], order: object) -> None:
    labels = [label for label, _ in rows]
    groups = [f"g{group}" for _, group in rows]
    found = split(labels, groups)
    assert max(Counter(group for group, _ in set(zip(groups, found, strict=True))).values()) == 1
    places = list(range(len(rows)))
    order.shuffle(places)  # type: ignore[attr-defined]
    again = split([labels[place] for place in places], [groups[place] for place in places])
    assert [found[place] for place in places] == again


@settings(max_examples=200, deadline=None)
@given(rows=ROWS, size=st.floats(0, 1), seed=st.integers(0, 3))
def test_an_image_keeps_its_split_when_the_data_grows(rows: list[tuple[str, int]], size: float, seed: int) -> None:
    labels, groups = [label for label, _ in rows], [f"g{group}" for _, group in rows]
    part = slice(int(size * len(rows)))
    small, large = assigned(labels[part], groups[part], seed=seed), assigned(labels, groups, seed=seed)
    for group, before, after in zip(groups[part], small.splits, large.splits[part], strict=True):
        assert before == after or group in small.moved | large.moved


def test_a_relabelled_image_keeps_its_split() -> None:
    labels = ["a"] * 100 + ["b"] * 100
    assert split(labels, ids(200)) == split(labels[::-1], ids(200))


def test_data_that_grew_by_a_third_move_nothing() -> None:
    labels = [f"class {number % 5}" for number in range(2000)]
    before, after = assigned(labels[:1500], ids(1500)), assigned(labels, ids(2000))
    assert before.splits == after.splits[:1500]
    assert not before.moved | after.moved


@pytest.mark.parametrize("number", [2, 3, 4, 6, 10])
def test_small_classes_are_in_every_split(number: int) -> None:
    labels = [label for label in "abcdefghijklmnop" for _ in range(number)]
    found = assigned(labels, ids(len(labels)))
    counts = Counter(zip(labels, found.splits, strict=True))
    assert found.moved
    for label in set(labels):
        assert counts[label, "test"] >= 1
        assert counts[label, "train"] >= min(max(number - 2, 1), LEAST_KEPT - 1)
        assert counts[label, "val"] >= (1 if number > 2 else 0)


@settings(max_examples=100, deadline=None)
@given(rows=ROWS)
def test_what_was_moved_is_said_and_training_sees_every_label(rows: list[tuple[str, int]]) -> None:
    labels, groups = [label for label, _ in rows], [f"g{group}" for _, group in rows]
    found = assigned(labels, groups, val_fraction=0)
    trained = {label for label, name in zip(labels, found.splits, strict=True) if name == "train"}
    assert trained == set(labels)
    for group, name in zip(groups, found.splits, strict=True):
        if group not in found.moved:
            drawn = int.from_bytes(hashlib.sha256(f"0 test {group}".encode()).digest()[:8]) / 2**64
            assert (name == "test") == (drawn < 0.2)


def test_one_group_cannot_be_divided() -> None:
    assert split(["a"] * 10, ["patient"] * 10) == ["train"] * 10


def test_groups_join_copies_pairs_and_the_users_groups() -> None:
    names = ids(6)
    names[1] = names[0]
    groups = group_rows(names, ["", "", "", "p", "p", ""], np.array([1]), np.array([2]))
    assert groups[0] == groups[1] == groups[2] == min(names[0], names[2])[:16]
    assert groups[3] == groups[4] == "p"
    assert groups[5] == names[5][:16]
    assert group_rows([], [], NONE, NONE) == []
