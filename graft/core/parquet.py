"""Tables with a row for each image, as Parquet: however many rows, a part of them is converted at a time."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

ROWS_AT_ONCE = 1024


def write_table(file: Path, table: pd.DataFrame) -> None:
    """Write a table without its index."""
    schema = pa.Schema.from_pandas(table, preserve_index=False)
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, len(table), ROWS_AT_ONCE):
            part = table.iloc[start : start + ROWS_AT_ONCE]
            writer.write_table(pa.Table.from_pandas(part, schema, preserve_index=False))
    _give_back()


def read_table(file: Path) -> pd.DataFrame:
    """Read a table."""
    table: pd.DataFrame = pq.read_table(file).to_pandas()
    _give_back()
    return table


def _give_back() -> None:
    """Make Arrow return what it took meanwhile, several times what a table needs, which it would keep otherwise."""
    pa.default_memory_pool().release_unused()
