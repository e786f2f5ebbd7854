"""A table is read as it was written, whatever values one block of rows contains."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from graft.core.parquet import BLOCK_ROWS, read_table, write_table


def table(rows: int) -> pd.DataFrame:
    numbers = np.arange(rows)
    return pd.DataFrame(
        {
            "path": [f"{number}.png" for number in numbers],
            "late": pd.Series([None if number <= BLOCK_ROWS else "text" for number in numbers], dtype=object),
            "probabilities": [np.array([0.25, number]) for number in numbers],
            "bytes": numbers,
            "width": np.where(numbers % 2, np.nan, numbers),
            "gps": numbers % 3 == 0,
        },
        index=pd.Index(numbers[::-1]),
    )


@pytest.mark.parametrize("rows", [1, BLOCK_ROWS, 2 * BLOCK_ROWS + 1])
def test_a_table_is_read_as_it_was_written_except_for_its_index(tmp_path: Path, rows: int) -> None:
    written = table(rows)
    write_table(tmp_path / "a.parquet", written)
    found = read_table(tmp_path / "a.parquet")
    assert pq.read_metadata(tmp_path / "a.parquet").num_row_groups == -(-rows // BLOCK_ROWS)
    assert list(found.columns) == list(written.columns)
    for name in ("path", "bytes", "width", "gps"):
        np.testing.assert_array_equal(found[name].to_numpy(), written[name].to_numpy())
    np.testing.assert_array_equal(np.stack(found["probabilities"]), np.stack(written["probabilities"]))
    assert found["late"].notna().sum() == max(0, rows - BLOCK_ROWS - 1)


def test_a_table_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", table(0))
    found = read_table(tmp_path / "a.parquet")
    assert len(found) == 0
    assert list(found.columns) == list(table(0).columns)
