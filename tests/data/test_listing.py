"""Layouts of data folders, and what must never be read."""

import os
from pathlib import Path

import pytest

from graft.core.errors import DataError
from graft.data.listing import list_images
from graft.data.records import printable
from graft.data.safe_paths import read_bytes
from tests.support.encoded import png


def tree(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return root


def seen(root: Path) -> list[tuple[str, str, str | None]]:
    return [(record.path, record.label, record.split) for record in list_images(root).records]


def test_class_folders_are_read_deep_and_sorted(tmp_path: Path) -> None:
    tree(tmp_path, "dog/2.png", "dog/deep/1.png", "cat/1.jpg", "cat/.hidden.jpg", ".git/x.png", "__MACOSX/cat/1.jpg")
    assert seen(tmp_path) == [
        ("cat/1.jpg", "cat", None),
        ("dog/2.png", "dog", None),
        ("dog/deep/1.png", "dog", None),
    ]


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "validation", "testing"), ("train", "valid", "TEST")]
)
def test_split_folders_by_any_usual_name(tmp_path: Path, names: tuple[str, str, str]) -> None:
    tree(tmp_path, *(f"{name}/{label}/1.png" for name in names for label in ("cat", "dog")))
    listing = list_images(tmp_path)
    assert listing.layout == "split folders"
    assert {record.split for record in listing.records} == {"train", "val", "test"}
    assert listing.warnings == ()


@pytest.mark.parametrize("second", ["val", "test"])
def test_of_two_splits_the_second_is_the_test_set(tmp_path: Path, second: str) -> None:
    tree(tmp_path, "train/cat/1.png", "train/dog/1.png", f"{second}/cat/1.png")
    listing = list_images(tmp_path)
    assert {record.split for record in listing.records} == {"train", "test"}
    assert any("becomes the test set" in text for text in listing.warnings) == (second == "val")


def test_what_is_in_no_class_folder_is_listed(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.png", "dog/1.png", "notes.txt", "loose.png")
    (tmp_path / "empty").mkdir()
    listing = list_images(tmp_path)
    assert listing.warnings == ("empty: the folder holds no file, so it is not a class",)
    assert {problem.path: problem.kind for problem in listing.problems} == {
        "notes.txt": "not_an_image",
        "loose.png": "left_out",
    }
    splits = tree(tmp_path / "splits", "train/cat/1.png", "test/cat/1.png", "docs/a/b.png", "train/loose.png")
    assert {problem.path: problem.kind for problem in list_images(splits).problems} == {
        "docs/a/b.png": "left_out",
        "train/loose.png": "left_out",
    }


def test_what_a_manifest_does_not_name_is_listed(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png", "a/2.png", "a/notes.txt")
    listing = list_images(manifest(tmp_path, "path,label\na/1.png,cat\n"))
    assert [(problem.path, problem.kind) for problem in listing.problems] == [("a/2.png", "unlisted")]


@pytest.mark.parametrize(
    "name", [".ipynb_checkpoints", "@eaDir", "__MACOSX", ".thumbnails", "$RECYCLE.BIN", "#recycle"]
)
def test_clutter_is_no_class(tmp_path: Path, name: str) -> None:
    image = png(8, 8)
    for folder in (tmp_path / name, tmp_path / "cat" / name, tmp_path / "dog"):
        folder.mkdir(parents=True)
        (folder / "1.png").write_bytes(image)
        (folder / "._1.png").write_bytes(b"a resource fork")
    (tmp_path / "cat/2.png").write_bytes(image)
    listing = list_images(tmp_path)
    assert {record.label for record in listing.records} == {"cat", "dog"}
    assert {problem.path for problem in listing.problems} == {f"{name}/1.png", f"cat/{name}/1.png"}
    assert {problem.kind for problem in listing.problems} == {"clutter"}


def test_look_alike_names_are_one_class(tmp_path: Path) -> None:
    tree(tmp_path, "caf\u00e9/1.png", "cafe\u0301/2.png", "tea/1.png")
    assert {record.label for record in list_images(tmp_path).records} == {"caf\u00e9", "tea"}


def test_two_folders_of_one_split(tmp_path: Path) -> None:
    tree(tmp_path, "train/cat/1.png", "val/cat/1.png", "valid/cat/1.png")
    with pytest.raises(DataError, match="val/, valid/ each stand for the split val; keep one of each"):
        list_images(tmp_path)


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder; expected class folders, train/val/test folders"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(DataError, match="the folder is empty; expected class folders"):
        list_images(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="no image files here; expected class folders"):
        list_images(tmp_path)
    (tmp_path / "cat/photos.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"no image files here, but cat/photos.zip: unpack it into folders; expected"):
        list_images(tmp_path)
    tree(tmp_path / "flat", "1.png")
    with pytest.raises(DataError, match="images are directly in the folder, so they have no label"):
        list_images(tmp_path / "flat")


def manifest(root: Path, text: str) -> Path:
    root.mkdir(exist_ok=True)
    (root / "manifest.csv").write_text(text, encoding="utf-8")
    return root


def test_a_manifest_with_every_column(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png", "b.png")
    text = "path,label,split,group,domain,camera\na/1.png,cat,training,g1,indoor,X\nb.png,NA,test,,outdoor,\n"
    first, second = list_images(manifest(tmp_path, "\ufeff" + text)).records
    assert (first.path, first.label, first.split, first.group, first.domain) == (
        "a/1.png",
        "cat",
        "train",
        "g1",
        "indoor",
    )
    assert first.extra == {"camera": "X"}
    assert (second.label, second.group, second.extra) == ("NA", "", {"camera": ""})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("path,kind\n1.png,a\n", r"no column 'label' \(found: path, kind; also read: class, category, target"),
        ("", "manifest.csv: is empty; expected a header"),
        ("path,label\n", "no rows; expected one for every image"),
        ("path,label\n1.png,\n", "manifest.csv line 2: label is empty"),
        ("path,label\n,a\n", "manifest.csv line 2: path is empty"),
        ("path,label,split\n1.png,a,fold1\n", "line 2: split 'fold1'; expected train, val, test or target"),
        ("path,label,split\n1.png,a,train\n2.png,a,\n", r"1 rows have no split while others do \(first: 2.png\)"),
    ],
)
def test_a_manifest_that_cannot_be_used(tmp_path: Path, text: str, line: str) -> None:
    tree(tmp_path, "1.png", "2.png")
    with pytest.raises(DataError, match=line):
        list_images(manifest(tmp_path, text))


def test_paths_that_a_manifest_must_not_name(tmp_path: Path) -> None:
    tree(tmp_path, "outside.png", "data/1.png")
    root = manifest(tmp_path / "data", f"path,label\n1.png,a\n../outside.png,a\n{tmp_path}/outside.png,a\nno.png,a\n")
    listing = list_images(root)
    assert [record.path for record in listing.records] == ["1.png"]
    assert [(problem.kind, problem.message) for problem in listing.problems] == [
        ("path_escape", "manifest.csv line 3 leads out of the data folder"),
        ("path_escape", "manifest.csv line 4 leads out of the data folder"),
        ("missing_file", "manifest.csv line 5 names a file that is not there"),
    ]


def test_links_pipes_and_loops_are_listed_and_not_read(tmp_path: Path) -> None:
    root = tree(tmp_path / "data", "cat/real.png", "dog/1.png")
    tree(tmp_path, "secret.png")
    cat = root / "cat"
    (cat / "inside.png").symlink_to("real.png")
    (cat / "outside.png").symlink_to(tmp_path / "secret.png")
    (cat / "loop.png").symlink_to("loop.png")
    (cat / "nothing.png").symlink_to("gone.png")
    (cat / "circle").symlink_to(root)
    (root / "linked").symlink_to(tmp_path)
    os.mkfifo(cat / "pipe.png")
    listing = list_images(root)
    assert [record.path for record in listing.records] == ["cat/inside.png", "cat/real.png", "dog/1.png"]
    assert {problem.path: problem.kind for problem in listing.problems} == {
        "linked": "path_escape",
        "cat/circle": "broken_link",
        "cat/loop.png": "broken_link",
        "cat/nothing.png": "broken_link",
        "cat/outside.png": "path_escape",
        "cat/pipe.png": "special_file",
    }


def test_reading_refuses_a_link_or_pipe_that_replaced_a_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "big").write_bytes(b"12345")
    with pytest.raises(DataError, match="cannot be opened"):
        read_bytes(tmp_path / "link")
    with pytest.raises(DataError, match="is not a regular file"):
        read_bytes(tmp_path / "pipe")
    with pytest.raises(DataError, match="vanished"):
        read_bytes(tmp_path / "gone")
    with pytest.raises(DataError, match="has 5 bytes, more than the 4 allowed"):
        read_bytes(tmp_path / "big", 4)
    assert read_bytes(tmp_path / "big", 5) == b"12345"


def test_names_of_any_bytes_can_be_shown(tmp_path: Path) -> None:
    folder = tmp_path / "cat"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    (folder / 'a\n"<b>.png').write_bytes(b"x")
    records = list_images(tmp_path).records
    assert [record.path for record in records] == ['cat/a\n"<b>.png', "cat/caf\\xe9.png"]
    assert [read_bytes(record.file) for record in records] == [b"x", b"x"]
    assert printable(records[0].path) == 'cat/a\\n"<b>.png'
