"""Tables with one row per image, as Parquet; when writing, a block of rows is converted at a time."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from graft.core.boundary import readable
from graft.core.checksums import check_file

BLOCK_ROWS = 1024


def write_table(file: Path, table: pd.DataFrame) -> None:
    """Write a table without its index."""
    schema = pa.Schema.from_pandas(table, preserve_index=False)
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, len(table), BLOCK_ROWS):
            part = table.iloc[start : start + BLOCK_ROWS]
            writer.write_table(pa.Table.from_pandas(part, schema, preserve_index=False))
    _release_memory()


def read_table(file: Path) -> pd.DataFrame:
    """Read a table.

    Raises:
        DamagedError: if it cannot be read, or differs from its checksum.
    """
    check_file(file)
    with readable(file):
        stored = pq.read_table(file)
        stored.validate(full=True)  # text that is no UTF-8 would be an error at its first use
        table: pd.DataFrame = stored.to_pandas()
        del stored
    _release_memory()
    return table


def _release_memory() -> None:
    """Make Arrow return its working memory, several times the size of a table, which it would keep otherwise."""
    pa.default_memory_pool().release_unused()
