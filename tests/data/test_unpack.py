"""Extraction of archives, harmless and hostile."""

import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from graft.core.errors import DataError
from graft.data.unpack import Limits, extract
from tests.support.archives import IMAGES, pack_tgz, pack_zip

Pack = Callable[[Path, Mapping[str, bytes]], Path]


def refused(archive: Path, limits: Limits | None = None, root: str = "set") -> str:
    with pytest.raises(DataError) as caught:
        extract(archive, archive.parent / "deep" / "out", root, limits)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(params=[pack_zip, pack_tgz])
def pack(request: pytest.FixtureRequest) -> Pack:
    chosen: Pack = request.param
    return chosen


def test_files_below_the_root(pack: Pack, tmp_path: Path) -> None:
    assert extract(pack(tmp_path, IMAGES), tmp_path / "out", "set") == 3
    found = {path.relative_to(tmp_path / "out").as_posix(): path for path in (tmp_path / "out").rglob("*.*")}
    assert set(found) == {"cat/1.png", "dog/1.png", "LICENSE.txt"}
    assert found["dog/1.png"].read_bytes() == b"two" * 1000
    assert not found["cat/1.png"].stat().st_mode & (stat.S_IXUSR | stat.S_ISUID)


@pytest.mark.parametrize("name", ["../up.png", "set/../../up.png", "/abs.png", "set/..\\..\\up.png", "C:/up.png"])
def test_a_path_that_leads_out(pack: Pack, tmp_path: Path, name: str) -> None:
    assert "leads out of the folder; refused" in refused(pack(tmp_path, {"set/1.png": b"", name: b"x"}))
    assert not [path for path in tmp_path.rglob("*") if path.name in ("up.png", "abs.png")]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_tar_member_that_is_not_a_file(tmp_path: Path, kind: bytes) -> None:
    line = refused(pack_tgz(tmp_path, IMAGES, {"set/cat/2.png": kind}))
    assert "'set/cat/2.png' is a link or a device; only regular files are extracted" in line


def test_zip_member_that_is_a_link(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        info = zipfile.ZipInfo("set/link.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/hostname")
    assert "'set/link.png' is a link or a device" in refused(tmp_path / "set.zip")


def test_bomb_by_ratio(pack: Pack, tmp_path: Path) -> None:
    line = refused(pack(tmp_path, {"set/zeros.png": bytes(8_000_000)}))
    assert "refused as a decompression bomb" in line
    assert sum(path.stat().st_size for path in tmp_path.rglob("zeros.png")) <= 3_000_000


def test_bomb_in_the_header_of_a_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tgz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("set/1.png")
        info.pax_headers = {"comment": "x" * 20_000_000}
        archive.addfile(info)
    assert "refused as a decompression bomb" in refused(tmp_path / "set.tgz")


def test_too_many_bytes_and_files(pack: Pack, tmp_path: Path) -> None:
    archive = pack(tmp_path, IMAGES)
    assert "refused as a decompression bomb" in refused(archive, Limits(bytes=2000))
    assert "more than 2 files; refused" in refused(archive, Limits(files=2), root="nowhere")


def test_two_members_with_the_same_name(tmp_path: Path) -> None:
    assert "two members have the same name" in refused(pack_zip(tmp_path, {"set/a": b"1", "set/a/b": b"2"}))
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("set/a", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("set/a", "2")
    assert "two members have the same name" in refused(tmp_path / "twice.zip")


def test_nothing_below_the_root(pack: Pack, tmp_path: Path) -> None:
    assert "no file below 'other' in it" in refused(pack(tmp_path, IMAGES), root="other")


def test_damaged(pack: Pack, tmp_path: Path) -> None:
    archive = pack(tmp_path, {"set/noise.png": bytes(range(256)) * 400})
    content = archive.read_bytes()
    for damaged in (content[: len(content) // 2], content[:100] + b"\0" * 20 + content[120:]):
        archive.write_bytes(damaged)
        assert "damaged archive" in refused(archive)


def test_encrypted(tmp_path: Path) -> None:
    archive = pack_zip(tmp_path, {"set/1.png": b"x"})
    content = bytearray(archive.read_bytes())
    at = content.rindex(b"PK\x01\x02")  # the last entry of the directory: its flags are 8 bytes on
    content[at + 8] |= 1
    archive.write_bytes(content)
    assert "'set/1.png' is encrypted" in refused(archive)


def test_neither_zip_nor_tar(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<html>")
    assert refused(tmp_path / "page.html") == "page.html: neither a .zip nor a .tar.gz"


@pytest.mark.parametrize("name", ["", "x" * 300 + ".png"])
def test_a_name_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr(name or "?", b"x")
    if not name:  # which `zipfile` does not write
        content = (tmp_path / "set.zip").read_bytes()
        at = content.index(b"PK\1\2")
        (tmp_path / "set.zip").write_bytes(content[: at + 28] + b"\0\0" + content[at + 30 :])
    assert "damaged archive" in refused(tmp_path / "set.zip", root="")
