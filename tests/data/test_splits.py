"""Splits: given ones stay, others are stratified, grouped and repeatable."""

import hashlib
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.data.splits import assign_splits, group_rows

NONE = np.empty(0, np.int64)


def ids(n: int) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(n)]


def split(labels: list[str], groups: list[str], given: list[str | None] | None = None, **fractions: float) -> list[str]:
    asked = {"val_fraction": 0.2, "test_fraction": 0.2, "seed": 0} | fractions
    return assign_splits(labels, groups, given or [None] * len(labels), **asked)  # type: ignore[arg-type]


def test_shares_per_label() -> None:
    labels = ["a"] * 50 + ["b"] * 25
    counts = Counter(zip(labels, split(labels, ids(75)), strict=True))
    assert counts == {
        ("a", "train"): 32,
        ("a", "val"): 8,
        ("a", "test"): 10,
        ("b", "train"): 16,
        ("b", "val"): 4,
        ("b", "test"): 5,
    }


def test_given_splits_stay_and_validation_is_drawn_from_train() -> None:
    given: list[str | None] = ["train"] * 20 + ["test"] * 5
    found = split(["a"] * 25, ids(25), given)
    assert found[20:] == ["test"] * 5
    assert Counter(found[:20]) == {"train": 16, "val": 4}
    everything: list[str | None] = ["train", "val", "test"]
    assert split(["a"] * 3, ids(3), everything) == everything


def test_the_seed_changes_the_draw() -> None:
    first, second = (split(["a"] * 40, ids(40), seed=seed) for seed in (0, 1))
    assert first != second
    assert Counter(first) == Counter(second)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), min_size=1, max_size=80),
    order=st.randoms(use_true_random=False),
)
def test_order_does_not_matter_and_groups_stay_whole(rows: list[tuple[str, int]], order: object) -> None:
    labels = [label for label, _ in rows]
    groups = [f"g{group}" for _, group in rows]
    found = split(labels, groups)
    assert max(Counter(group for group, _ in set(zip(groups, found, strict=True))).values()) == 1
    places = list(range(len(rows)))
    order.shuffle(places)  # type: ignore[attr-defined]
    again = split([labels[place] for place in places], [groups[place] for place in places])
    assert [found[place] for place in places] == again


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
