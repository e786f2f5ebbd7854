"""Blocks of rows: together they are the matrix, and computing over them gives the same as over the whole matrix."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.core import row_blocks
from graft.core.row_blocks import ArrayRows, MappedRows, Rows, fill_by_block, mean_and_std
from tests.support.growth import growth


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_blocks, "BLOCK_BYTES", 200)


def matrix(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 3, (n, d)).astype(np.float32)


@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=4), d=st.integers(1, 80))
@settings(max_examples=40, deadline=None)
def test_blocks_of_arrays_are_their_rows_in_order(sizes: list[int], d: int) -> None:
    parts = tuple(matrix(size, d, seed) for seed, size in enumerate(sizes))
    rows = ArrayRows(parts)
    assert rows.shape == (sum(sizes), d)
    found = np.full(rows.shape, np.nan, np.float32)
    for where, block in rows.blocks():
        assert block.nbytes <= max(200, 4 * d)
        found[where] = block
    np.testing.assert_array_equal(found, np.concatenate(parts))


def test_blocks_of_mapped_arrays_are_side_by_side(tmp_path: Path) -> None:
    arrays = []
    for number, width in enumerate((3, 5)):
        np.save(tmp_path / f"{number}.npy", matrix(30, width, number))
        arrays.append(np.load(tmp_path / f"{number}.npy", mmap_mode="r"))
    chosen = np.array([4, 7, 8, 20, 29])
    rows = MappedRows(tuple(arrays), chosen)
    whole = np.concatenate(arrays, axis=1)[chosen]
    assert rows.shape == whole.shape
    np.testing.assert_array_equal(rows.read(), whole)
    np.testing.assert_array_equal(rows.read(slice(1, 3)), whole[1:3])
    assert type(rows.read()) is np.ndarray
    np.testing.assert_array_equal(fill_by_block(lambda block: block, rows, np.empty(rows.shape, np.float32)), whole)


@given(n=st.integers(1, 60), d=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_mean_and_std_equal_those_of_the_whole_matrix(n: int, d: int) -> None:
    features = matrix(n, d)
    mean, spread = mean_and_std(ArrayRows((features,)))
    np.testing.assert_allclose(mean, features.mean(0, dtype=np.float64))
    np.testing.assert_allclose(spread, features.std(0, dtype=np.float64), atol=1e-9)


def test_without_rows_there_is_no_mean() -> None:
    with pytest.raises(ValueError, match="no rows"):
        mean_and_std(ArrayRows((matrix(0, 3),)))


def test_memory_does_not_grow_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_blocks, "BLOCK_BYTES", 2**16)

    def over(n: int):
        np.save(tmp_path / f"{n}.npy", matrix(n, 128))
        rows: Rows = MappedRows((np.load(tmp_path / f"{n}.npy", mmap_mode="r"),), np.arange(n))
        return lambda: mean_and_std(rows)

    assert growth(over, 1000, 4000) < 1
