"""The checksums of a folder find what differs, what is missing and what was added."""

import subprocess
from pathlib import Path

import pytest

from graft.core.atomic import replacing
from graft.core.checksums import SUMS_FILE, check_file, check_folder, read_checksums, write_checksums
from graft.core.errors import DamagedError, DataError, ModelError

NAMES = ("a.json", "inner/b.npy", "back\\slash.txt", "line\nbreak.txt", "ä ö.json", "two  blanks.json", "\u2028.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with replacing(tmp_path / "out") as temporary:
        for name in NAMES:
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_text(name, encoding="utf-8")
    return tmp_path / "out"


def test_every_file_is_listed_as_coreutils_lists_it(folder: Path) -> None:
    assert sorted(read_checksums(folder) or {}) == sorted(NAMES)
    assert (
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS_FILE], cwd=folder, check=False).returncode
        == 0
    )
    check_folder(folder, every_file=True)


@pytest.mark.parametrize("name", NAMES)
def test_what_differs_or_is_missing_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("something else")
    with pytest.raises(DamagedError, match="differs from what was written"):
        check_folder(folder, every_file=True)
    with pytest.raises(ModelError, match="differs"):
        check_file(folder / name)
    (folder / name).unlink()
    with pytest.raises(DataError, match="is missing"):
        check_folder(folder, every_file=True)


def test_mapped_files_are_left_to_their_readers(folder: Path) -> None:
    (folder / "inner/b.npy").write_text("something else")
    check_folder(folder)


def test_what_was_added_is_refused_where_every_file_counts(folder: Path) -> None:
    (folder / "readme.md").write_text("a note")
    check_folder(folder, every_file=True)
    (folder / "inner" / "code.py").write_text("print()")
    check_folder(folder)
    with pytest.raises(DamagedError, match=r"code\.py: was added after the folder was written"):
        check_folder(folder, every_file=True)


@pytest.mark.parametrize("line", ["", "x", "0" * 64, f"{'0' * 64}  ../outside", f"{'0' * 64}  /etc/passwd"])
def test_a_list_that_is_damaged_is_refused(folder: Path, line: str) -> None:
    (folder / SUMS_FILE).write_text(line + "\n")
    with pytest.raises(DamagedError, match="SHA256SUMS: line 1 is not a checksum"):
        check_folder(folder)


def test_a_folder_without_checksums_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    check_folder(tmp_path, every_file=True)
    check_file(tmp_path / "a.json")
    assert read_checksums(tmp_path) is None
    write_checksums(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_users_own_folder_gets_none(tmp_path: Path) -> None:
    with replacing(tmp_path / "images", checksums=False) as temporary:
        temporary.mkdir()
        (temporary / "a.png").write_bytes(b"x")
    assert [file.name for file in (tmp_path / "images").iterdir()] == ["a.png"]
