"""Nearest neighbours: exact over all pairs, and nearly all near ones through cells."""

from pathlib import Path

import numpy as np
import pytest

from graft.core import row_blocks
from graft.quality import nearest_neighbours
from graft.quality.nearest_neighbours import find_nearest
from tests.support.growth import growth


def cosines(features: np.ndarray) -> np.ndarray:
    unit = features - features.mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return unit @ unit.T


@pytest.mark.parametrize("n", [2, 7, 900])
def test_few_rows_are_compared_with_all(n: int) -> None:
    features = np.random.default_rng(0).normal(2, 1, (n, 24)).astype(np.float32)
    groups = np.arange(n) // 2
    count = min(5, n - 1)
    found, alike = find_nearest(features, groups, count)
    expected = cosines(features.astype(np.float64))
    expected[groups[:, None] == groups[None, :]] = -np.inf
    for row in range(n):
        best = np.sort(expected[row][np.isfinite(expected[row])])[::-1][:count]
        held = found[row] >= 0
        assert held.sum() == len(best)
        np.testing.assert_allclose(np.sort(alike[row][held])[::-1], best, atol=1e-5)
        np.testing.assert_allclose(alike[row][held], expected[row, found[row][held]], atol=1e-5)


def test_cells_find_the_copies_among_many() -> None:
    generator = np.random.default_rng(0)
    # Clustered vectors, as the features of a backbone are.
    kinds = generator.normal(0, 1, (40, 48))
    features = kinds[generator.integers(0, 40, 2500)] + generator.normal(0, 0.6, (2500, 48))
    copies = features[:300] + generator.normal(0, 0.25, (300, 48))
    everything = np.concatenate([features, copies]).astype(np.float32)
    groups = np.arange(len(everything))
    exact, _ = find_nearest(everything, groups, 5, exact=len(everything))
    through_cells, alike = find_nearest(everything, groups, 5, exact=0)
    known = np.array([row in exact[2500 + row] for row in range(300)])
    again = np.array([row in through_cells[2500 + row] for row in range(300)])
    assert known.mean() > 0.99
    assert (known & ~again).mean() < 0.01
    same = np.mean([len(set(one) & set(other)) for one, other in zip(exact, through_cells, strict=True)]) / 5
    assert same > 0.9
    np.testing.assert_array_equal(through_cells, find_nearest(everything, groups, 5, exact=0)[0])
    rows = np.arange(len(everything))
    np.testing.assert_allclose(alike, cosines(everything)[rows[:, None], through_cells], atol=1e-4)


def test_features_stay_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_neighbours, "_QUERIES", 128)
    monkeypatch.setattr(nearest_neighbours, "_MEMBERS", 512)
    monkeypatch.setattr(row_blocks, "BLOCK_BYTES", 2**18)

    def over(n: int):
        np.save(tmp_path / f"{n}.npy", np.random.default_rng(0).normal(0, 1, (n, 512)).astype(np.float32))
        features = np.load(tmp_path / f"{n}.npy", mmap_mode="r")
        return lambda: find_nearest(features, np.arange(n), 5)

    # A row of features takes 2048 bytes; only five neighbours of it are kept.
    assert growth(over, 1000, 3000) < 300
