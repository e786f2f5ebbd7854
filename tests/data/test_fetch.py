"""Raw images from a folder or a CSV manifest (from DVC: test_dvc_versions.py)."""

import json
import os
from pathlib import Path

import pytest

from graft.core.digest import folder_digest
from graft.core.errors import DataError, GraftError, ParamsError
from graft.data.fetch import fetch
from graft.data.listing import list_images


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def manifest(folder: Path, text: str) -> str:
    (folder / "set.csv").write_text(text, encoding="utf-8")
    return str(folder / "set.csv")


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def line_of(source: str, tmp_path: Path, error: type[GraftError] = DataError, **options: str) -> str:
    with pytest.raises(error) as caught:
        fetch(source, tmp_path / "raw", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folder(images: Path, tmp_path: Path) -> None:
    source = fetch(str(images), tmp_path / "raw")
    assert files(tmp_path / "raw") == ["cat/1.png", "cat/2.png", "dog/1.png", "source.json"]
    assert json.loads((tmp_path / "raw" / "source.json").read_text()) == {
        "origin": "folder",
        "path": str(images),
        "repo": None,
        "rev": None,
        "digest": folder_digest(images),
        "files": 3,
        "skipped": [],
    }
    assert str(source) == str(images)


def test_the_current_folder(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(images)
    assert fetch(".", tmp_path / "raw").files == 3


def test_a_folder_of_the_user(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch("~/images/", tmp_path / "raw").path == str(images)


def test_fetching_twice_gives_the_same_bytes(images: Path, tmp_path: Path) -> None:
    fetch(str(images), tmp_path / "one")
    fetch(str(images), tmp_path / "two")
    assert folder_digest(tmp_path / "one") == folder_digest(tmp_path / "two")


def test_digest_is_of_content_and_not_of_hidden_files(images: Path, tmp_path: Path) -> None:
    first = fetch(str(images), tmp_path / "one").digest
    (images / ".DS_Store").write_text("noise")
    assert fetch(str(images), tmp_path / "two").digest == first
    (images / "cat" / "1.png").write_text("changed")
    assert fetch(str(images), tmp_path / "three").digest != first


def test_left_out_files_are_listed(images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "secret").write_text("password")
    (images / "cat" / "out.png").symlink_to(tmp_path / "secret")
    os.mkfifo(images / "dog" / "pipe.png")
    (images / os.fsdecode(b"\xff.png")).symlink_to("nowhere")
    (images / "source.json").write_text("{}")
    source = fetch(str(images), tmp_path / "raw")
    assert {(s.path, s.kind, s.reason) for s in source.skipped} == {
        ("cat/out.png", "path_escape", "link out of the folder"),
        ("dog/pipe.png", "special_file", "named pipe"),
        ("\\xff.png", "broken_link", "broken link"),
        ("source.json", "reserved_name", "name reserved for the record of the source"),
    }
    assert source.files == 3
    assert "4 entries left out: 1 x name reserved for the record of the source, 1 x" in capfd.readouterr().err
    problems = {(problem.kind, problem.path) for problem in list_images(tmp_path / "raw").problems}
    assert problems == {("path_escape", "cat/out.png"), ("special_file", "dog/pipe.png"), ("broken_link", "\\xff.png")}
    assert "password" not in "".join(p.read_text() for p in (tmp_path / "raw").rglob("*") if p.is_file())


def test_digest_of_a_tracked_folder_is_what_dvc_recorded(
    images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (images / ".keep").write_text("")  # DVC counts hidden files
    recorded = folder_digest(images)
    (tmp_path / "images.dvc").write_text(f"outs:\n- md5: {recorded}\n  path: images\n")
    assert fetch(str(images), tmp_path / "one").digest == recorded
    (images / "cat" / "1.png").write_text("changed")
    assert fetch(str(images), tmp_path / "two").digest != recorded
    assert f"differs from the version in {images}.dvc; `dvc add {images}` records it" in capfd.readouterr().err


def test_no_such_source(tmp_path: Path) -> None:
    line = line_of("data/none", tmp_path)
    assert line.startswith("data/none: no such file or folder; expected a folder of class folders, ")
    assert "columns path, label" in line


def test_demo_folder_not_written_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "data/digits: no such file or folder (`graft demo` makes the demo digits there)" in line_of(
        "data/digits", tmp_path
    )


def test_tracked_but_not_pulled(images: Path, tmp_path: Path) -> None:
    (tmp_path / "far.dvc").write_text("outs:\n- md5: 0.dir\n  path: far\n")
    far = tmp_path / "far"
    assert line_of(str(far), tmp_path) == f"{far}: does not exist, but {far}.dvc tracks it; `dvc pull {far}` fetches it"


def test_a_file_that_is_not_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_text("")
    assert "photos.zip: is an archive; unpack it and name the folder" in line_of(str(tmp_path / "photos.zip"), tmp_path)


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    (tmp_path / "empty" / "cat" / "a.png").symlink_to("/etc/hostname")
    line = line_of(str(tmp_path / "empty"), tmp_path)
    assert "empty: contains no files (1 left out: 1 x link out of the folder); expected" in line


def test_revision_without_repository(images: Path, tmp_path: Path) -> None:
    assert line_of(str(images), tmp_path, ParamsError, rev="v1").startswith("get_data.rev='v1': needs get_data.repo")


def test_manifest(images: Path, tmp_path: Path) -> None:
    text = "\ufeffpath,label,split\ncat/1.png,cat,train\ndog/1.png,dog,test\ncat/1.png,cat,train\n"
    source = fetch(manifest(images, text), tmp_path / "raw")
    assert files(tmp_path / "raw") == ["cat/1.png", "dog/1.png", "manifest.csv", "source.json"]
    assert (tmp_path / "raw" / "manifest.csv").read_text(encoding="utf-8") == text
    assert (source.origin, source.files) == ("manifest", 2)


def test_digest_covers_the_labels_of_a_manifest(images: Path, tmp_path: Path) -> None:
    first = fetch(manifest(images, "path,label\ncat/1.png,cat\n"), tmp_path / "one").digest
    assert fetch(manifest(images, "path,label\ncat/1.png,dog\n"), tmp_path / "two").digest != first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path:label\na:b\n", "no column 'path' (found: path:label; also read: file_name"),
        ("", "is empty; expected a header and one row per line"),
        ("path,label\n../secret,x\n", "line 2: path '../secret' leads out of the folder of the CSV"),
        ("path,label\ncat/1.png,cat\ncat/../../secret,x\n", "line 3: path 'cat/../../secret' leads out"),
        ("path,label\n/etc/hostname,x\n", "line 2: path '/etc/hostname' leads out of the folder of the CSV"),
        ("path,label\n,x\n", "line 2: empty path; expected a file relative to the folder of the CSV"),
        ("path,label\nsource.json,x\n", "line 2: path 'source.json' is a name that Graft reserves"),
        ("path,label\ncat/9.png,x\n", "1 of 1 files cannot be read: line 2: 'cat/9.png' (no such file)"),
        ("path,label\nca\0t,x\n", "line 2: holds a NUL byte"),
        ("path,label\ncat,x\n", "1 of 1 files cannot be read: line 2: 'cat' (folder)"),
        ("path,label\nlink.png,x\n", "line 2: 'link.png' (link out of the folder)"),
        ("path,label\n" + "".join(f"{n},x\n" for n in range(9)), "9 of 9 files cannot be read: line 2: '0'"),
        ('path,label\n"cat/1.png,x\n', "not valid CSV"),
        ("path,label\n", "no rows; expected one for every image"),
    ],
)
def test_faulty_manifest(images: Path, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "secret").write_text("password")
    (images / "link.png").symlink_to(tmp_path / "secret")
    line = line_of(manifest(images, text), tmp_path)
    assert line.startswith(str(images / "set.csv"))
    assert said in line


def test_long_list_of_missing_files_is_cut(images: Path, tmp_path: Path) -> None:
    text = "path,label\n" + "".join(f"{number}.png,x\n" for number in range(9))
    assert "'2.png' (" in (line := line_of(manifest(images, text), tmp_path))
    assert " and 6 more; paths are relative to the folder of the CSV" in line
    assert "'3.png'" not in line


def test_manifest_in_another_encoding(images: Path, tmp_path: Path) -> None:
    (images / "set.csv").write_bytes("path,label\ncat/1.png,Käfer\n".encode("latin-1"))
    assert "set.csv: line 2: not UTF-8 text (byte 22); save it as CSV in UTF-8" in line_of(
        str(images / "set.csv"), tmp_path
    )
