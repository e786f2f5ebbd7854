"""Repeatable splits without leakage: given ones are kept, others are drawn by content, whole groups at a time.

The split of an image depends on the seed and on the content of its group, never on file names or their order.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from graft.core.connected import Indices, component_labels
from graft.data.dataset import Split


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


def assign_splits(
    labels: Sequence[str],
    groups: Sequence[str],
    given: Sequence[Split | None],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> list[Split]:
    """Return the split of every row.

    Given splits are kept. Without a test split, `test_fraction` of all images is drawn for it; without a validation
    split, `val_fraction` of the remaining training images. Draws are stratified by label and never divide a group.

    Args:
        labels: label of every row.
        groups: group of every row, from `group_rows`.
        given: the user's split of every row; either all None or none of them.
        val_fraction: 0 draws no validation split.
        test_fraction: 0 draws no test split.
        seed: changes the draws.
    """
    splits: list[Split] = [split or "train" for split in given]
    wanted: list[tuple[Split, float]] = [("test", test_fraction), ("val", val_fraction)]
    for name, fraction in wanted:
        if name not in given:
            pool = [row for row, split in enumerate(splits) if split == "train"]
            for row in _draw(pool, labels, groups, fraction, f"{seed} {name}"):
                splits[row] = name
    return splits


def _draw(
    pool: Sequence[int], labels: Sequence[str], groups: Sequence[str], fraction: float, salt: str
) -> Iterable[int]:
    """Yield the rows of `pool` to hold out: about `fraction` of each label, and at least one where groups allow it."""
    members: dict[str, list[int]] = defaultdict(list)
    for row in pool:
        members[groups[row]].append(row)
    strata: dict[str, list[str]] = defaultdict(list)
    for group, rows in members.items():
        strata[_most_common(labels[row] for row in rows)].append(group)
    for _, named in sorted(strata.items()):
        if fraction <= 0 or len(named) < 2:
            continue
        named.sort(key=lambda group: hashlib.sha256(f"{salt} {group}".encode("utf-8", "surrogateescape")).digest())
        target = max(1, int(fraction * sum(len(members[group]) for group in named) + 0.5))
        taken: list[str] = []
        room = target
        for group in named:
            if len(members[group]) <= room and len(taken) < len(named) - 1:
                taken.append(group)
                room -= len(members[group])
        if not taken:
            taken = [min(named, key=lambda group: len(members[group]))]
        for group in taken:
            yield from members[group]


def _most_common(labels: Iterable[str]) -> str:
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label))


def _pairs_by_key(keys: Sequence[str]) -> Indices:
    """Pair every row with the first one of the same key; empty keys connect nothing. Shape (m, 2)."""
    earliest: dict[str, int] = {}
    pairs = [(earliest.setdefault(key, row), row) for row, key in enumerate(keys) if key]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
