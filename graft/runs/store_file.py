"""The sqlite file of a local MLflow store: made whole or not at all, and a half-made one set aside.

MLflow makes its tables one by one. Killed in between, it leaves a file on which it fails from then on ("table already
exists"), so the tables are made in a temporary file that is renamed when it is complete.
"""

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from graft.core.atomic import replacing
from graft.core.boundary import DATABASE_FAULTS
from graft.core.errors import GraftError

PATIENCE_SECONDS = 30.0
"""How long another process may be in a commit."""
_LAST_TABLE = "alembic_version"
"""Has a row only when MLflow has made all tables."""


def database_file(uri: str) -> Path | None:
    """Return the file of an sqlite URI; None for other stores. A relative one is relative to the working folder."""
    return Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None


def ensure_complete(database: Path) -> None:
    """Make the store's file if it is missing; set aside one whose making was interrupted. The caller holds its lock.

    Raises:
        GraftError: if the file is damaged or not a database.
    """
    if database.is_file() and database.stat().st_size:
        if _is_complete(database):
            return
        aside = database.with_name(f"{database.name}.half-made")
        database.replace(aside)
        print(
            f"{database}: its making was interrupted, so it holds no runs; it is kept as {aside.name}", file=sys.stderr
        )
    _make(database)


def _make(database: Path) -> None:
    from mlflow.tracking import MlflowClient

    with replacing(database) as temporary:
        uri = f"sqlite:///{temporary}"
        MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments(max_results=1)


def _is_complete(database: Path) -> bool:
    """Return whether all tables were made; if there is any run, MLflow's own message says what is wrong instead."""
    # Not read-only: what a process that was killed in a commit has left is undone by the next one that may write.
    existing = f"file:{quote(os.fspath(database.absolute()))}?mode=rw"
    try:
        with closing(sqlite3.connect(existing, uri=True, timeout=PATIENCE_SECONDS)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if _LAST_TABLE in tables and connection.execute(f"SELECT count(*) FROM {_LAST_TABLE}").fetchone()[0]:
                return True
            return "runs" in tables and connection.execute("SELECT count(*) FROM runs").fetchone()[0] > 0
    except DATABASE_FAULTS as error:
        raise GraftError(
            f"{database}: not a readable MLflow store ({error}); restore a backup, or move it away to start anew"
        ) from error
