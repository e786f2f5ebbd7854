"""The cache of image examinations: a file that has not changed is not decoded again.

One SQLite file in the cache folder, keyed by the sha256 of the content and by the code and settings of the examination.
Several versions of the code share it, as branches of one repository do; what a version has not used for a month is
deleted. The file may be deleted at any time.
"""

import hashlib
import json
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import PIL

from graft.core.boundary import DATABASE_FAULTS
from graft.core.cache import cache_root, throw_away
from graft.core.source_code import source_digest
from graft.imaging.header import Facts
from graft.imaging.value_range import Extremes, ValueRange
from graft.quality.image_statistics import Examination, Statistics

FILE = "examined.sqlite"
BATCH = 500
KEPT_SECONDS = 30 * 24 * 3600
"""How long the examinations of a version of the code are kept after its last use."""
_TABLES = """
CREATE TABLE IF NOT EXISTS examinations (
    code TEXT, settings TEXT, id TEXT, found TEXT, signature BLOB, digest TEXT, PRIMARY KEY (code, settings, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS versions (code TEXT PRIMARY KEY, used REAL) WITHOUT ROWID;
"""


class ExaminationCache:
    """Examinations by the sha256 of the content; lookups are thread-safe."""

    def __init__(self, connection: sqlite3.Connection, settings: str) -> None:
        self._connection = connection
        self._settings = settings
        self._code = f"{source_digest('graft.quality.image_statistics')} Pillow {PIL.__version__}"
        self._lock = threading.Lock()
        self._fresh: list[Examination] = []
        self._found: set[str] = set()
        self.damaged = False
        """Whether something that was read is not what was written; it is then examined again."""

    def __call__(self, identity: str) -> Examination | None:
        """Return the examination of the content with this sha256, if it is cached."""
        query = "SELECT found, signature, digest FROM examinations WHERE code = ? AND settings = ? AND id = ?"
        with self._lock:
            try:
                row = self._connection.execute(query, (self._code, self._settings, identity)).fetchone()
            except DATABASE_FAULTS:
                self.damaged = True
                return None
            if row is None:
                return None
            if row[2] != _digest(identity, row[0], row[1]):
                self.damaged = True
                return None
            self._found.add(identity)
        values = json.loads(row[0])
        facts, statistics, extremes = values.pop("facts"), values.pop("statistics"), values.pop("extremes")
        return Examination(
            **values,
            facts=Facts(**facts) if facts else None,
            statistics=Statistics(**statistics, signature=row[1]) if statistics else None,
            extremes=Extremes(**extremes) if extremes else None,
        )

    def add(self, examined: Examination) -> None:
        """Add an examination to the cache, if it is new."""
        if examined.id and examined.id not in self._found:
            self._fresh.append(examined)
            if len(self._fresh) >= BATCH:
                try:
                    self.flush()
                except DATABASE_FAULTS:  # full or damaged: what does not fit is examined again next time
                    self._fresh.clear()
                    self.damaged = True

    def flush(self) -> None:
        """Write the new examinations."""
        rows = []
        for examined in self._fresh:
            values = asdict(examined)
            signature = values["statistics"].pop("signature") if values["statistics"] else b""
            found = json.dumps(values)
            digest = _digest(examined.id, found, signature)
            rows.append((self._code, self._settings, examined.id, found, signature, digest))
        self._fresh.clear()
        with self._lock, self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO examinations VALUES (?, ?, ?, ?, ?, ?)", rows)

    def delete_unused_versions(self) -> None:
        """Note that this version of the code is used, and delete the examinations of those not used for a month."""
        now = time.time()
        with self._lock, self._connection:
            self._connection.execute("INSERT OR REPLACE INTO versions VALUES (?, ?)", (self._code, now))
            unused = self._connection.execute(
                "SELECT code FROM versions WHERE used < ?", (now - KEPT_SECONDS,)
            ).fetchall()
            self._connection.executemany("DELETE FROM examinations WHERE code = ?", unused)
            self._connection.executemany("DELETE FROM versions WHERE code = ?", unused)


@contextmanager
def open_examination_cache(
    max_pixels: int, channels: int = 3, values: ValueRange | None = None
) -> Iterator[ExaminationCache | None]:
    """Open the cache of earlier runs; None if the cache is switched off or cannot be used."""
    root = cache_root()
    connection = _connected(root / FILE) if root is not None else None
    if root is None or connection is None:
        yield None
        return
    try:
        known = ExaminationCache(connection, f"max_pixels {max_pixels} channels {channels} values {values}")
        yield known
        try:
            known.flush()
            known.delete_unused_versions()
        except DATABASE_FAULTS as error:
            known.damaged = True
            warnings.warn(f"{root}: results are not cached ({error})", stacklevel=2)
    finally:
        connection.close()
    if known.damaged:
        _remove(root / FILE)


def _connected(file: Path) -> sqlite3.Connection | None:
    for attempt in (1, 2):
        connection = None
        try:
            connection = sqlite3.connect(file, timeout=20, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_TABLES)
            return connection
        except DATABASE_FAULTS as error:
            if connection:
                connection.close()
            # OperationalError is about a lock or the disk; what is no database any more is made again.
            if attempt == 2 or isinstance(error, sqlite3.OperationalError):
                warnings.warn(f"{file}: every image is examined again ({error})", stacklevel=2)
                return None
            throw_away(file, error)
            _remove(file)
    return None


def _remove(file: Path) -> None:
    """Remove a damaged database; it is made again."""
    for suffix in ("", "-wal", "-shm"):
        with suppress(OSError):
            file.with_name(file.name + suffix).unlink(missing_ok=True)


def _digest(identity: str, found: str, signature: bytes) -> str:
    return hashlib.sha256(b"\0".join([identity.encode(), found.encode(), signature or b""])).hexdigest()
