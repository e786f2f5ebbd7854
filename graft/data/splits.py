"""Repeatable splits without leakage: given ones are kept, others are drawn by content, whole groups at a time.

The split of a group depends on the seed and on the group's own name, never on other images, file names or their order.
So an image keeps its split when the data grows: a model is not tested on what an earlier one was trained on. Two things
can still move an image: a class that is too small to have images in every split without help, and a new picture that
joins two groups or, as the smallest content hash, renames one.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from graft.core.connected import Indices, component_labels
from graft.data.records import Split


def group_rows(ids: Sequence[str], groups: Sequence[str], first: Indices, second: Indices) -> list[str]:
    """Return the group of every row: rows with equal content, with one user group or in one pair belong together.

    Args:
        ids: content hashes.
        groups: the user's groups, empty where there is none.
        first: with `second`, the rows of each pair of near-duplicates.
        second: see `first`.

    Returns:
        For each row the smallest user-given name in its group; without one, the start of its smallest content hash.
    """
    edges = np.concatenate([np.stack([first, second], axis=1), _pairs_by_key(ids), _pairs_by_key(groups)])
    labels = component_labels(len(ids), edges[:, 0], edges[:, 1]).tolist()
    by_content: dict[int, str] = {}
    by_user: dict[int, str] = {}
    for label, identity, group in zip(labels, ids, groups, strict=True):
        by_content[label] = min(identity[:16], by_content.get(label, identity))
        if group:
            by_user[label] = min(group, by_user.get(label, group))
    return [by_user.get(label, by_content[label]) for label in labels]


@dataclass(frozen=True)
class Assigned:
    """The split of every row."""

    splits: list[Split]
    moved: frozenset[str]
    """Groups whose split is not that of their hash, because a class would be missing from a split."""


def assign_splits(
    labels: Sequence[str | Sequence[str]],
    groups: Sequence[str],
    given: Sequence[Split | None],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> Assigned:
    """Return the split of every row.

    Given splits are kept. Without a test split, each group is held out for it with probability `test_fraction`; without
    a validation split, each remaining training group with probability `val_fraction`. A group is never divided. Classes
    of two groups or more have one in each drawn split, and up to three in training before others are held out.

    Args:
        labels: label of every row, or all of them: of several tasks, or tags.
        groups: group of every row, from `group_rows`.
        given: the user's split of every row; either all None or none of them.
        val_fraction: 0 draws no validation split.
        test_fraction: 0 draws no test split.
        seed: changes the draws.
    """
    splits: list[Split] = [split or "train" for split in given]
    wanted: list[tuple[Split, float]] = [("test", test_fraction), ("val", val_fraction)]
    moved: set[str] = set()
    for name, fraction in wanted:
        if name not in given and fraction > 0:
            pool = [row for row, split in enumerate(splits) if split == "train"]
            drawn = _draw({groups[row]: f"{seed} {name} {groups[row]}" for row in pool})
            by_hash = {group for group, number in drawn.items() if number < fraction}
            held_out = _with_every_class(by_hash, drawn, _groups_by_label(pool, labels, groups))
            moved |= held_out ^ by_hash
            for row in pool:
                if groups[row] in held_out:
                    splits[row] = name
    return Assigned(splits, frozenset(moved))


LEAST_KEPT = 3
"""Groups of a class that stay in training, if it has more: two to learn from and one for validation."""


def _draw(salted: Mapping[str, str]) -> dict[str, float]:
    """Return a number in [0, 1) for each group, by the hash of its salted name alone."""
    return {
        group: int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:8]) / 2**64
        for group, text in salted.items()
    }


def _groups_by_label(
    rows: Sequence[int], labels: Sequence[str | Sequence[str]], groups: Sequence[str]
) -> dict[str, set[str]]:
    named: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        own = labels[row]
        for label in (own,) if isinstance(own, str) else own:
            named[label].add(groups[row])
    return dict(sorted(named.items()))


def _with_every_class(by_hash: set[str], drawn: Mapping[str, float], named: Mapping[str, set[str]]) -> set[str]:
    """Return the groups to hold out: those drawn, changed where a label would be missing on either side.

    Args:
        by_hash: groups held out by their hash alone.
        drawn: the number of each group; the nearest to the fraction are moved.
        named: groups of each label.
    """
    held_out = set(by_hash)
    least = {label: min(max(len(own) - 1, 1), LEAST_KEPT) for label, own in named.items()}

    def nearness(group: str) -> tuple[float, str]:
        return drawn[group], group

    def spare(group: str) -> bool:
        return all(len(own - held_out) > least[label] for label, own in named.items() if group in own)

    for label, own in named.items():
        lacking = least[label] - len(own - held_out)
        if lacking > 0:
            held_out.difference_update(sorted(own & held_out, key=nearness)[-lacking:])
    for own in named.values():
        if not own & held_out:
            held_out.update(islice(filter(spare, sorted(own, key=nearness)), 1))
    return held_out


def _pairs_by_key(keys: Sequence[str]) -> Indices:
    """Pair every row with the first one of the same key; empty keys connect nothing. Shape (m, 2)."""
    earliest: dict[str, int] = {}
    pairs = [(earliest.setdefault(key, row), row) for row, key in enumerate(keys) if key]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
