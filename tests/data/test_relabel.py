"""Applying a reviewed queue: a new version of the data, no image lost, all or nothing."""

import contextlib
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from dvc.cli import main as dvc_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from graft.core.digest import file_digest, folder_digest
from graft.core.errors import DataError
from graft.data import relabel as relabel_module
from graft.data.dvc_versions import data_version, fetch_version
from graft.data.relabel import relabel

HEADER = "path,label,suggested,score,decision,new_label\n"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make(tmp_path / "images", ["cat/1.png", "cat/2.png", "cat/deep/3.png", "dog/1.png", "dog/4.png"])


def make(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def queue(folder: Path, *rows: str) -> Path:
    file = folder / "queue.csv"
    file.write_text(HEADER + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return file


def names(folder: Path) -> dict[str, str]:
    """Return every file's content by its path."""
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def contents(folder: Path) -> Counter[str]:
    return Counter(file_digest(path) for path in folder.rglob("*") if path.is_file())


def test_class_folders(images: Path, tmp_path: Path) -> None:
    before = contents(images)
    done = relabel(
        queue(
            tmp_path,
            "cat/1.png,cat,dog,0.9,relabel,",
            "cat/2.png,cat,dog,0.8,keep,",
            "cat/deep/3.png,cat,,0.8,relabel,dog",
            "dog/4.png,dog,cat,0.8,,",
        ),
        images,
    )
    assert names(images) == {
        "cat/2.png": "cat/2.png",
        "dog/1.png": "dog/1.png",
        "dog/4.png": "dog/4.png",
        "dog/cat-1.png": "cat/1.png",  # dog/1.png was taken
        "dog/deep/3.png": "cat/deep/3.png",
    }
    assert contents(images) == before
    assert (done.relabelled, done.kept, done.unreviewed, done.version) == (2, 1, 1, None)
    assert done.moved == {"cat/1.png": "dog/cat-1.png", "cat/deep/3.png": "dog/deep/3.png"}


def test_split_folders(tmp_path: Path) -> None:
    images = make(tmp_path / "images", ["train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "test/dog/4.png"])
    relabel(queue(tmp_path, "test/cat/3.png,cat,dog,0.9,relabel,"), images)
    assert set(names(images)) == {"train/cat/1.png", "train/dog/2.png", "test/dog/3.png", "test/dog/4.png"}


def test_hidden_files_and_links_are_kept(images: Path, tmp_path: Path) -> None:
    (images / "cat" / ".note").write_text("mine")
    (images / "cat" / "link.png").symlink_to("2.png")
    (images / "cat" / "folder").symlink_to("deep")
    relabel(queue(tmp_path, "cat/1.png,cat,dog,0.9,relabel,"), images)
    assert (images / "cat" / ".note").read_text() == "mine"
    assert (images / "cat" / "link.png").readlink() == Path("2.png")
    assert (images / "cat" / "folder").readlink() == Path("deep")


def test_swap_of_two_images(tmp_path: Path) -> None:
    images = make(tmp_path / "images", ["cat/1.png", "dog/1.png"])
    relabel(queue(tmp_path, "cat/1.png,cat,dog,1,relabel,", "dog/1.png,dog,cat,1,relabel,"), images)
    assert names(images) == {"cat/dog-1.png": "dog/1.png", "dog/cat-1.png": "cat/1.png"}


def test_file_system_without_hard_links(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    before = contents(images)
    relabel(queue(tmp_path, "cat/1.png,cat,dog,0.9,relabel,"), images)
    assert contents(images) == before


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_manifest(tmp_path: Path, line_end: str, mark: str) -> None:
    rows = ["path,label,split,note", 'a.png,cat,train,"x, y"', "b.png,dog,test,", "c.png,cat,train,ü"]
    (tmp_path / "set.csv").write_text(mark + line_end.join([*rows, ""]), encoding="utf-8", newline="")
    relabel(queue(tmp_path, "a.png,cat,dog,0.9,relabel,", "c.png,cat,dog,0.9,keep,"), tmp_path / "set.csv")
    rows[1] = 'a.png,dog,train,"x, y"'
    assert (tmp_path / "set.csv").read_bytes().decode() == mark + line_end.join([*rows, ""])


def test_manifest_in_a_folder(images: Path, tmp_path: Path) -> None:
    (images / "manifest.csv").write_text("path,label\ncat/1.png,cat\ndog/1.png,dog\n")
    relabel(queue(tmp_path, "cat/1.png,cat,dog,0.9,relabel,"), images)
    assert (images / "manifest.csv").read_text() == "path,label\ncat/1.png,dog\ndog/1.png,dog\n"
    assert (images / "cat" / "1.png").exists()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("cat/9.png,cat,dog,1,relabel,", "no image 'cat/9.png' in the data; the queue is from another version of it"),
        (
            "cat/1.png,dog,cat,1,relabel,",
            "'cat/1.png' is labelled 'cat', not 'dog'; the queue is from another version",
        ),
        (
            "cat/1.png,cat,Dog,1,relabel,",
            "no image has the label 'Dog' yet; did you mean 'dog'? (--new-classes allows it)",
        ),
        ("cat/1.png,cat,zebra,1,relabel,", "no image has the label 'zebra' yet; known: cat, dog"),
        ("cat/link.png,cat,dog,1,relabel,", "'cat/link.png' is a link"),
    ],
)
def test_a_queue_that_does_not_fit_changes_nothing(images: Path, tmp_path: Path, row: str, said: str) -> None:
    (images / "cat" / "link.png").symlink_to("1.png")
    before = names(images)
    with pytest.raises(DataError) as caught:
        relabel(queue(tmp_path, "cat/2.png,cat,dog,0.9,relabel,", row), images)
    assert f"queue.csv: line 3: {said}" in str(caught.value)
    assert names(images) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "queue.csv"]


@pytest.mark.parametrize("label", ["../up", "a/b", ".hidden", ".."])
def test_a_label_that_cannot_be_a_folder(images: Path, tmp_path: Path, label: str) -> None:
    with pytest.raises(DataError, match="cannot be the name of a folder"):
        relabel(queue(tmp_path, f"cat/1.png,cat,,1,relabel,{label}"), images, new_classes=True)


def test_a_new_class_if_asked_for(images: Path, tmp_path: Path) -> None:
    relabel(queue(tmp_path, "cat/1.png,cat,,1,relabel,fox"), images, new_classes=True)
    assert (images / "fox" / "1.png").read_text() == "cat/1.png"


def test_no_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none: no such folder or manifest"):
        relabel(queue(tmp_path, "a,b,c,1,keep,"), tmp_path / "none")


def test_a_crash_leaves_the_old_state(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(relabel_module, "_files", crash)
    before = names(images)
    with pytest.raises(KeyboardInterrupt):
        relabel(queue(tmp_path, "cat/1.png,cat,dog,0.9,relabel,"), images)
    assert names(images) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "queue.csv"]


@given(labels=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=12))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_image_is_lost(labels: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("lost")
    paths = [f"{label}/{number % 3}.png" for number, (label, _) in enumerate(labels)]
    images = make(folder / "images", paths)
    wanted = {path: new for path, (_, new) in zip(paths, labels, strict=True)}
    before = contents(images)
    relabel(queue(folder, *(f"{p},{p[0]},{new},1,relabel," for p, new in wanted.items())), images, new_classes=True)
    assert contents(images) == before
    assert {content: path[0] for path, content in names(images).items()} == wanted


def test_dvc_records_a_new_version_and_keeps_the_old(tmp_path: Path) -> None:
    def run(command: str) -> None:
        tool, *arguments = command.split()
        if tool == "dvc":
            with contextlib.chdir(tmp_path):
                assert dvc_command(arguments) == 0
        else:
            subprocess.run([tool, *arguments], cwd=tmp_path, check=True, capture_output=True)

    images = make(tmp_path / "images", ["cat/1.png", "cat/2.png", "dog/3.png"])
    old = names(images)
    (tmp_path / ".gitignore").write_text("queue.csv\n")
    for command in (
        "git init -q",
        "git config user.name A",
        "git config user.email a@example.org",
        "dvc init -q",
        "dvc config cache.type hardlink",
        "dvc add -q images",
        "git add -A",
        "git commit -qm old",
        "git tag old",
    ):
        run(command)
    first = folder_digest(images)
    done = relabel(queue(tmp_path, "cat/1.png,cat,dog,0.9,relabel,"), images)
    assert done.version == folder_digest(images) != first
    run("git commit -qam new")
    assert data_version(str(tmp_path), None, "images") == done.version
    assert data_version(str(tmp_path), "old", "images") == first
    fetch_version(str(tmp_path), "old", "images", tmp_path / "out")
    assert names(tmp_path / "out") == old


def test_command(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("get_data:\n  source: images\n")
    app = relabel_module.typer.Typer()
    app.command()(relabel_module.main)
    result = CliRunner().invoke(app, [str(queue(tmp_path, "cat/1.png,cat,dog,0.9,relabel,"))])
    assert result.exit_code == 0
    assert "images: 1 relabelled, 0 kept, 0 not reviewed\nversion " in result.output
    assert "not tracked by DVC" in result.output


def test_command_on_a_pinned_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("get_data:\n  repo: https://example.org/x.git\n")
    with pytest.raises(SystemExit, match=r"relabel in a clone of it, then set get_data\.rev to the new revision"):
        relabel_module.main(tmp_path / "queue.csv")
