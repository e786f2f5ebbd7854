"""A disk that is full, read-only or over its quota, and a process without descriptors: one line with the path."""

import errno
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy.exc import OperationalError

from graft.core.boundary import machine_fault
from graft.core.errors import GraftError
from graft.core.mapped_arrays import create_array, temporary_array
from graft.params.section import Section
from graft.runs.run_log import Log
from graft.runs.step import In, Metrics, Out, step
from tests.faults.conftest import Count
from tests.support.small_disk import small_disk

ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)


class Nothing(Section):
    """No parameters."""


FAULT = {"kind": 0}


@step
def writes(source: In, result: Out, params: Nothing, log: Log) -> Metrics:
    """Write an array, or meet the fault of the test."""
    result.mkdir(parents=True)
    if FAULT["kind"] == -1:
        raise MemoryError("Unable to allocate 9.3 TiB")
    if FAULT["kind"] == -2:
        raise OperationalError("SELECT 1", {}, sqlite3.OperationalError("database is locked"))
    if FAULT["kind"] == -3:
        raise sqlite3.DatabaseError("database disk image is malformed")
    if FAULT["kind"]:
        raise OSError(FAULT["kind"], os.strerror(FAULT["kind"]), str(result / "file"))
    create_array(result / "array.npy", np.float32, (2**20,))[:] = 1.0
    return {}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes, in which an earlier result lies."""
    with small_disk(tmp_path / "disk", 2) as folder:
        (folder / "result").mkdir()
        (folder / "result" / "old.txt").write_text("old")
        yield folder


def run(tmp_path: Path, result: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """Run the step; return the line that it ends with. Nothing else may be on standard error."""
    (tmp_path / "in").write_text("x")
    with pytest.raises(SystemExit) as ended:
        writes.run(params={}, metrics=tmp_path / "metrics.json", source=tmp_path / "in", result=result)
    assert "Traceback" not in capfd.readouterr().err
    assert "\n" not in str(ended.value)
    return str(ended.value)


def test_a_full_disk_is_a_line_and_no_signal(
    tmp_path: Path, disk: Path, count: Count, capfd: pytest.CaptureFixture[str], store: Path
) -> None:
    FAULT["kind"] = 0
    line = run(tmp_path, disk / "result", capfd)
    assert str(disk) in line
    assert "the disk is full" in line
    assert "outputs are as they were" in line
    assert [file.name for file in disk.rglob("*")] == ["result", "old.txt"], "the old result, and no temporaries"
    count("a full disk under an output", 1, 1)


def test_a_read_only_disk(
    tmp_path: Path, disk: Path, count: Count, capfd: pytest.CaptureFixture[str], store: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    line = run(tmp_path, disk / "result", capfd)
    assert str(disk) in line
    assert "read-only" in line.lower()
    count("a read-only disk under an output", 1, 1)


@pytest.mark.parametrize("kind", [*ERRORS, -1])
def test_whatever_the_machine_lacks_is_one_line(
    tmp_path: Path, kind: int, count: Count, capfd: pytest.CaptureFixture[str], store: Path
) -> None:
    FAULT["kind"] = kind
    line = run(tmp_path, tmp_path / "result", capfd)
    assert line.startswith("writes: ")
    assert "; " in line
    count("no space, memory, quota or descriptors in a step", 1, 1)


@pytest.mark.parametrize("kind", [-2, -3])
def test_whatever_a_store_raises_is_one_line_that_names_it(
    tmp_path: Path, kind: int, count: Count, capfd: pytest.CaptureFixture[str], store: Path
) -> None:
    FAULT["kind"] = kind
    line = run(tmp_path, tmp_path / "result", capfd)
    assert line.startswith(f"writes: MLflow at {os.environ['MLFLOW_TRACKING_URI']} cannot be used (")
    assert line.endswith("restore a backup or start it")
    count("an error of the store in a step", 1, 1)


def test_arrays_are_reserved_before_they_are_mapped(disk: Path, monkeypatch: pytest.MonkeyPatch, count: Count) -> None:
    with pytest.raises(OSError, match="asked for") as raised:
        create_array(disk / "large.npy", np.float32, (2**22,))
    assert raised.value.errno == errno.ENOSPC
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    with pytest.raises(OSError, match="asked for"), temporary_array((2**24,)):
        pass
    assert str(machine_fault(raised.value)).startswith(str(disk / "large.npy"))
    count("a full disk under a memory map", 2, 2)


def test_64_descriptors_are_enough_to_look_at_a_folder(tmp_path: Path, root: Path, count: Count) -> None:
    """`ulimit -n 64`: the caches, the threads and the flush of an artifact keep few files open."""
    code = (
        "import sys; from pathlib import Path; from graft.core.atomic import replacing\n"
        "with replacing(Path(sys.argv[1])) as folder:\n"
        "    folder.mkdir()\n"
        "    for number in range(500): (folder / f'{number}.json').write_text('{}')\n"
        "from graft.core.checksums import check_folder; check_folder(Path(sys.argv[1]), every_file=True)\n"
    )

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    assert subprocess.run(command, preexec_fn=few, cwd=root, check=False).returncode == 0
    count("64 file descriptors", 1, 1)


def test_a_graft_error_is_not_one_of_the_machine() -> None:
    assert machine_fault(GraftError("x")) is None
    assert machine_fault(ValueError("x")) is None
