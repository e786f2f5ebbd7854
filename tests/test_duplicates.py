"""Near-duplicates: what the hash index finds, and how many pairs that is compared with all of them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.duplicates import HASH_RADIUS, components, hash_pairs, near_pairs, perceptual_hashes


def pictures(n: int, seed: int = 0) -> np.ndarray:
    """Smooth random luminance, as photos have it: uint8 (n, 32, 32)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 8, 8)).astype(np.uint8)
    return np.kron(coarse, np.ones((1, 4, 4), np.uint8))


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
    first, second = hash_pairs(hashes)
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == all_pairs(hashes, hashes)
    others = hashes[::-1].copy()
    first, second = hash_pairs(hashes, others)
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == all_pairs(hashes, others)


def test_many_equal_hashes_are_tied_without_every_pair() -> None:
    first, second = hash_pairs(np.zeros(2000, np.uint64))
    assert len(first) == 1999
    assert len(set(components(2000, first, second).tolist())) == 1


def test_copies_are_found_and_others_are_not() -> None:
    signatures = pictures(200)
    noise = np.random.default_rng(1).normal(0, 3, signatures.shape)
    copies = np.clip(signatures * 0.8 + 10 + noise, 0, 255).astype(np.uint8)
    copies[100:] = copies[100:, :, ::-1]
    pairs = near_pairs(np.concatenate([signatures, copies]), 0.985)
    assert pairs.first.tolist() == list(range(200))
    assert pairs.second.tolist() == list(range(200, 400))
    assert pairs.mirrored.tolist() == [False] * 100 + [True] * 100
    assert pairs.similarity.min() > 0.985


def test_flat_pictures_resemble_nothing() -> None:
    flat = np.full((5, 32, 32), 200, np.uint8)
    flat[1:, 0, 0] = 201
    assert len(near_pairs(flat, 0.9)) == 0
    assert len(near_pairs(np.empty((0, 32, 32), np.uint8), 0.9)) == 0


def test_the_mirrored_hash_is_that_of_the_mirror_image() -> None:
    signatures = pictures(50)
    _, mirrored = perceptual_hashes(signatures)
    again, _ = perceptual_hashes(signatures[:, :, ::-1].copy())
    assert np.bitwise_count(mirrored ^ again).max() <= 2


def test_components_take_the_lowest_row() -> None:
    assert components(5, np.array([3, 1]), np.array([1, 4])).tolist() == [0, 1, 2, 1, 1]
