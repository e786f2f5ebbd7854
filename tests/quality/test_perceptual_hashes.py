"""Hashes of pictures, and their index compared with all pairs."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.core.connected import component_labels
from graft.quality.perceptual_hashes import HASH_RADIUS, hash_pairs, perceptual_hashes
from tests.support.pictures import random_luminance


def pairs(hashes: np.ndarray, others: np.ndarray | None = None) -> list[tuple[int, int]]:
    return [
        pair
        for first, second in hash_pairs(hashes, others)
        for pair in zip(first.tolist(), second.tolist(), strict=True)
    ]


def all_pairs(hashes: np.ndarray, others: np.ndarray) -> set[tuple[int, int]]:
    close = np.bitwise_count(hashes[:, None] ^ others[None, :]) <= HASH_RADIUS
    return {(min(i, j), max(i, j)) for i, j in np.argwhere(close).tolist() if i != j}


@settings(max_examples=50, deadline=None)
@given(
    base=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12, unique=True),
    flips=st.lists(st.sets(st.integers(0, 63), min_size=1, max_size=10), max_size=12),
)
def test_the_index_finds_what_comparing_everything_finds(base: list[int], flips: list[set[int]]) -> None:
    changed = [base[k % len(base)] ^ sum(1 << bit for bit in bits) for k, bits in enumerate(flips)]
    hashes = np.unique(np.array(base + changed, dtype=np.uint64))
    found = pairs(hashes)
    assert set(found) == all_pairs(hashes, hashes)
    assert len(set(found)) == len(found)
    others = hashes[::-1].copy()
    assert set(pairs(hashes, others)) == all_pairs(hashes, others)


def test_many_equal_hashes_are_connected_without_every_pair() -> None:
    found = np.array(pairs(np.zeros(2000, np.uint64)))
    assert len(found) == 1999
    assert len(set(component_labels(2000, found[:, 0], found[:, 1]).tolist())) == 1


def test_equal_hashes_in_two_poses_are_connected_through_their_first_rows() -> None:
    hashes = np.repeat(np.array([5, 9], np.uint64), 30)
    found = set(pairs(hashes, np.repeat(np.array([9, 1 << 40], np.uint64), 30)))
    assert {(j, i) for i in range(30, 46) for j in range(16)} <= found


def test_the_mirrored_hash_is_that_of_the_mirror_image() -> None:
    signatures = random_luminance(50)
    _, mirrored = perceptual_hashes(signatures)
    again, _ = perceptual_hashes(signatures[:, :, ::-1].copy())
    assert np.bitwise_count(mirrored ^ again).max() <= 2
