import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.core import atomic
from graft.core.atomic import (
    ASIDE,
    commit_pointer,
    marked_sibling,
    read_json,
    remove,
    replacing,
    sweep,
    write_json,
    write_text,
)
from graft.core.errors import GraftError


def test_a_file_replaces_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.txt"
    write_text(file, "one")
    write_text(file, "zwei ü")
    assert file.read_text(encoding="utf-8") == "zwei ü"
    assert [path.name for path in file.parent.iterdir()] == ["a.txt"]


def test_a_folder_replaces_a_folder_with_content(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "old").mkdir(parents=True)
    with replacing(folder) as temporary:
        (temporary / "new").mkdir(parents=True)
        assert (folder / "old").is_dir()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")

    def fail() -> None:
        with replacing(file) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(("at_once", "alone"), [(True, 0), (False, 10)])
def test_many_files_are_flushed_together_where_the_system_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool, alone: int
) -> None:
    flushed: list[Path] = []
    plain = atomic._fsync
    monkeypatch.setattr(atomic, "MANY_FILES", 4)
    monkeypatch.setattr(atomic, "_fsync", lambda path: (flushed.append(Path(path)), plain(path)))
    if not at_once:
        monkeypatch.setattr(atomic, "_sync_file_system", lambda folder: False)
    elif not sys.platform.startswith("linux"):
        pytest.skip("only Linux flushes a whole file system on demand")
    with replacing(tmp_path / "out") as temporary:
        temporary.mkdir()
        for number in range(10):
            (temporary / f"{number}.txt").write_text("x")
    assert len([path for path in flushed if path.suffix == ".txt"]) == alone
    assert tmp_path in flushed  # the new name is on the disk as well
    assert len(list((tmp_path / "out").glob("*.txt"))) == 10


def killed_within(path: Path, moved_aside: bool = False) -> None:
    """Kill a process while it writes to `path`."""
    child = os.fork()
    if child == 0:
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / "half").write_text("half")
            if moved_aside:
                path.rename(marked_sibling(path, ASIDE))
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    killed_within(tmp_path / "out")
    with replacing(tmp_path / "mine") as temporary:  # of a process that lives
        temporary.write_text("x")
        assert temporary in tmp_path.iterdir()
        sweep(tmp_path)
        assert list(tmp_path.iterdir()) == [temporary]
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_was_moved_aside_for_nothing_comes_back(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    killed_within(tmp_path / "out", moved_aside=True)
    assert not (tmp_path / "out").exists()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]


def test_what_a_commit_still_needs_stays(tmp_path: Path) -> None:
    killed_within(tmp_path / "out")
    commit_pointer(tmp_path / "out").write_text("journal")
    sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_nothing_written_changes_nothing(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.txt"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GraftError, match=r"cannot write here \(.*\); choose a folder you may write to"):
        write_text(tmp_path / "file" / "a.txt", "x")


def test_removing_files_folders_links_and_missing_paths(tmp_path: Path) -> None:
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    for name in ("folder", "file", "link", "missing"):
        remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40)
@given(value=values)
def test_json_round_trip(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    file = tmp_path_factory.getbasetemp() / "value.json"
    write_json(file, value)
    assert read_json(file) == value


def test_equal_values_are_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"x": 1, "y": 2})
    write_json(tmp_path / "b", {"y": 2, "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a", float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_reading_invalid_json_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(GraftError, match="no such file"):
        read_json(tmp_path / "a")
    (tmp_path / "a").write_text("{")
    with pytest.raises(GraftError, match="not valid JSON"):
        read_json(tmp_path / "a")
