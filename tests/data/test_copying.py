"""Copying out of an untrusted folder: which files are copied, which are left out and why."""

import hashlib
import os
import socket
from pathlib import Path

import pytest

from graft.data import copying
from graft.data.copying import NotCopiedError, copy_file, walk_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "cat").mkdir(parents=True)
    (folder / "cat" / "1.png").write_bytes(b"one")
    return folder


def refused(folder: Path, path: str) -> str:
    target = folder.parent / "copied"
    with pytest.raises(NotCopiedError) as caught:
        copy_file(folder, path, target)
    assert not target.exists()
    return str(caught.value)


def test_walk_is_ordered_and_leaves_hidden_ones_out(folder: Path) -> None:
    for name in ("b/2.png", "a/1.png", ".git/config", "a/.DS_Store", "a/Thumbs.db", "__MACOSX/x.png", ".gitignore"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("")
    assert list(walk_files(folder)) == ["a/1.png", "b/2.png", "cat/1.png"]


def test_walk_does_not_follow_a_loop_of_links(folder: Path) -> None:
    (folder / "cat" / "loop").symlink_to(folder)
    assert list(walk_files(folder)) == ["cat/1.png", "cat/loop"]


def test_copy_gives_the_digest_and_the_bytes(folder: Path, tmp_path: Path) -> None:
    assert copy_file(folder, "cat/1.png", tmp_path / "new" / "copied.png") == hashlib.md5(b"one").hexdigest()
    assert (tmp_path / "new" / "copied.png").read_bytes() == b"one"


def test_link_inside_the_folder_becomes_a_file(folder: Path, tmp_path: Path) -> None:
    (folder / "cat" / "2.png").symlink_to("1.png")
    copy_file(folder, "cat/2.png", tmp_path / "copied.png")
    assert not (tmp_path / "copied.png").is_symlink()
    assert (tmp_path / "copied.png").read_bytes() == b"one"


def test_the_folder_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert copy_file(tmp_path / "link", "cat/1.png", tmp_path / "copied.png")


def test_links_that_are_left_out(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("password")
    for name, target in (("out", tmp_path / "secret"), ("gone", "nowhere"), ("loop", "loop"), ("up", ".")):
        (folder / name).symlink_to(target)
    assert refused(folder, "out") == "link out of the folder"
    assert refused(folder, "gone") == "broken link"
    assert refused(folder, "loop") == "broken link"
    assert refused(folder, "up") == "link to a folder"


def test_pipes_and_sockets_are_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe")
    monkeypatch.chdir(folder)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        assert refused(folder, "pipe") == "named pipe"
        assert refused(folder, "socket") == "socket"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device file")
def test_device(folder: Path) -> None:
    try:
        os.mknod(folder / "null", 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("device files cannot be made here")
    assert refused(folder, "null") == "device"


def test_file_that_vanishes(folder: Path) -> None:
    assert refused(folder, "cat/gone.png") == "no such file"


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000, "a\0b"])
def test_a_name_that_no_file_can_have_is_not_copied(folder: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(NotCopiedError):
        copy_file(folder, name, tmp_path / "copy")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_and_folder(folder: Path) -> None:
    (folder / "cat" / "1.png").chmod(0)
    assert refused(folder, "cat/1.png") == "unreadable (Permission denied)"
    (folder / "cat").chmod(0)
    assert list(walk_files(folder)) == ["cat"]
    (folder / "cat").chmod(0o700)


def test_file_that_becomes_a_link_just_before_it_is_opened(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("password")
    checked = copying._inside

    def swap(root: Path, path: Path) -> Path:
        resolved = checked(root, path)
        path.unlink()
        path.symlink_to(tmp_path / "secret")
        return resolved

    monkeypatch.setattr(copying, "_inside", swap)
    assert refused(folder, "cat/1.png").startswith("unreadable")


def test_file_that_grows_while_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def grow(descriptor: int) -> bytes:
        with (folder / "cat" / "1.png").open("ab") as file:
            file.write(b"more")
        return os.read(descriptor, 2) if os.lseek(descriptor, 0, os.SEEK_CUR) == 0 else b""

    monkeypatch.setattr(copying, "_read", grow)
    assert refused(folder, "cat/1.png") == "changed while it was read"


@pytest.mark.parametrize("name", [b"\xff\xfe.png", b"a" * 251 + b".png", b"<b>\"'&\n.png"])
def test_unusual_names_are_kept(folder: Path, tmp_path: Path, name: bytes) -> None:
    text = os.fsdecode(name)
    (folder / text).write_bytes(b"odd")
    assert text in list(walk_files(folder))
    copy_file(folder, text, tmp_path / "new" / text)
    assert [os.fsencode(path.name) for path in (tmp_path / "new").iterdir()] == [name]
