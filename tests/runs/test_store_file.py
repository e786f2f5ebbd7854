import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from graft.core.errors import GraftError
from graft.runs.mlflow_store import open_client
from graft.runs.store_file import database_file, ensure_complete

OPEN = "from graft.runs.mlflow_store import open_client; open_client()"


def experiments(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("SELECT count(*) FROM experiments").fetchone()[0])


def test_the_file_of_a_store() -> None:
    assert database_file("sqlite:///mlflow.db") == Path("mlflow.db").absolute()
    assert database_file("sqlite:////srv/mlflow.db") == Path("/srv/mlflow.db")
    assert database_file("http://server:5000") is None


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0.0, 0.3, 0.8])
def test_a_kill_while_the_store_is_made_leaves_one_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: float
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    child = subprocess.Popen([sys.executable, "-c", OPEN], env=os.environ | {"PYTHONPATH": str(Path.cwd())})
    # The temporary file appears when MLflow begins with its tables.
    while not list(tmp_path.glob(".*.tmp")) and child.poll() is None:
        time.sleep(0.01)
    time.sleep(moment)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "mlflow.db").exists()
    assert len(open_client().search_experiments()) == 1


def test_a_kill_in_a_commit_is_undone_by_whoever_opens_the_store_next(store: Path) -> None:
    """SQLite then leaves its journal beside a file that is half changed; to read it, it must write."""
    child = os.fork()
    if child == 0:
        connection = sqlite3.connect(store)
        connection.execute("PRAGMA cache_size = 1")  # pages are written before the commit
        connection.executemany(
            "INSERT INTO experiments (name, lifecycle_stage) VALUES (?, 'active')",
            [(f"{number}{'x' * 200}",) for number in range(500)],
        )
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert store.with_name("mlflow.db-journal").stat().st_size
    assert [one.name for one in open_client().search_experiments()] == ["Default"]
    assert not store.with_name("mlflow.db-journal").exists()


def test_a_half_made_store_is_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER)")
        connection.commit()
    ensure_complete(database)
    assert experiments(database) == 1
    assert experiments(tmp_path / "mlflow.db.half-made") == 0
    assert "its making was interrupted, so it holds no runs" in capsys.readouterr().err
    before = database.read_bytes()
    ensure_complete(database)
    assert database.read_bytes() == before


def test_a_half_made_store_with_runs_is_left_alone(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE runs (run_uuid INTEGER)")
        connection.execute("INSERT INTO runs VALUES (1)")
        connection.commit()
    before = database.read_bytes()
    ensure_complete(database)
    assert database.read_bytes() == before


@pytest.mark.parametrize("damage", ["text", "cut", "flipped"])
def test_a_damaged_store_is_one_line(store: Path, damage: str) -> None:
    open_client()
    database = database_file(os.environ["MLFLOW_TRACKING_URI"])
    assert database
    content = bytearray(database.read_bytes())
    if damage == "text":
        content = bytearray(b"not a database at all" * 100)
    elif damage == "cut":
        content = content[:3000]
    else:
        content[: 4096 * 40] = os.urandom(4096 * 40)
    damaged = database.with_name("damaged.db")
    damaged.write_bytes(content)
    with pytest.raises(GraftError) as error:
        open_client(f"sqlite:///{damaged}")
    assert "\n" not in str(error.value)
    assert "damaged.db" in str(error.value)


def test_a_store_whose_damage_is_quoted_in_the_error_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE runs (a)")
        connection.commit()
    # The schema is no SQL, and the name that SQLite quotes for it no UTF-8.
    content = file.read_bytes().replace(b"CREATE TABLE runs", b"CREAXX TABLE runs")
    file.write_bytes(content.replace(b"runsruns", b"\xffunsruns"))
    with pytest.raises(GraftError, match=r"mlflow\.db: not a readable MLflow store \(.*decode"):
        ensure_complete(file)


def test_a_relative_file_has_a_place_for_artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = database_file("sqlite:///mlflow.db")
    assert found is not None
    assert (found.parent / "artifacts").as_uri() == (tmp_path / "artifacts").as_uri()


def test_a_database_without_its_driver_is_one_line() -> None:
    with pytest.raises(GraftError, match=r"MLflow at mysql://host/runs needs the package \w+, which is not installed"):
        open_client("mysql://user:secret@host/runs")
