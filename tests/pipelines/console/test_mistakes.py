"""Typical mistakes: each is one line that says where it comes from, at once, and nothing is recorded or registered."""

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.pictures import MakeImages

SECONDS = 2.0
"""Of processor time: the clock of a busy machine says nothing."""
Mistake = tuple[Callable[[Path], list[str]], int, str]


def of(text: str) -> Callable[[Path], list[str]]:
    return lambda folder: text.split()


def in_params(folder: Path) -> list[str]:
    (folder / "params.yaml").write_text("train_head:\n  fold: 3\n")
    return ["run", "photos"]


def of_one_class(folder: Path) -> list[str]:
    for file in (folder / "photos" / "dog").iterdir():
        file.unlink()
    (folder / "photos" / "dog").rmdir()
    return ["run", "photos"]


def empty(folder: Path) -> list[str]:
    (folder / "empty").mkdir()
    return ["run", "empty"]


def file_for_out(folder: Path) -> list[str]:
    (folder / "outputs").write_text("")
    return ["run", "photos"]


def port_in_use(folder: Path) -> list[str]:
    return ["serve", "--port", "PORT"]


@pytest.fixture
def used_port() -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield str(taken.getsockname()[1])


MISTAKES: dict[str, Mistake] = {
    "misspelt folder": (of("run photo"), 1, "get_data: photo: no such file or folder; did you mean photos?"),
    "empty folder": (empty, 1, "empty: the folder is empty; expected class folders"),
    "an image for a folder": (of("run photos/cat/0000.png"), 1, "is a file but not a .csv"),
    "one class": (of_one_class, 1, "photos: all images are of one class, 'cat'; a classifier needs two"),
    "unknown parameter": (of("run photos --params train_head.l3=1"), 1, "PARAMS: unknown parameter 'train_head.l3'"),
    "value of a wrong type": (of("run photos --params train_head.folds=x"), 1, "PARAMS: train_head.folds='x'"),
    "typo in params.yaml": (in_params, 1, "params.yaml: unknown parameter 'train_head.fold': did you mean 'folds'?"),
    "misspelt backbone": (
        of("run photos --params extract_features.backbone=resnt18"),
        1,
        "extract_features.backbone='resnt18': unknown architecture; did you mean resnet18",
    ),
    "missing weights": (
        of("run photos --params extract_features.weights=mine.pth"),
        1,
        "extract_features.weights='mine.pth': no such file",
    ),
    "name that no registry takes": (of("run photos --params register_model.name=a/b"), 1, "register_model.name='a/b'"),
    "output folder is a file": (file_for_out, 1, "cannot write here"),
    "unknown command": (of("rum photos"), 2, "graft: No such command 'rum'. Did you mean 'run'"),
    "unknown option": (of("run photos --epochs 3"), 2, "graft run: No such option: --epochs"),
    "image that is not there": (of("predict one.jpg"), 1, "one.jpg: no such file or folder"),
    "no model yet": (of("predict photos/cat/0000.png"), 1, "no model: no run has succeeded in this folder"),
    "nothing to resume": (of("resume"), 1, "nothing to go on with"),
    "port that does not exist": (of("serve --port 99999"), 2, "graft serve: Invalid value for '--port'"),
    "port in use": (port_in_use, 1, "is in use; choose another: --port"),
    "unknown profile": (of("compile --profile none"), 1, "no profile 'none'; known are"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_at_once(
    root: Path, tmp_path: Path, image_folder: MakeImages, store: Path, used_port: str, mistake: str
) -> None:
    image_folder({"cat": 4, "dog": 4}).rename(tmp_path / "photos")
    prepare, code, line = MISTAKES[mistake]
    arguments = [word.replace("PORT", used_port) for word in prepare(tmp_path)]
    before = store.read_bytes()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "graft", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == code
    assert line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stdout == ""
    assert now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime < SECONDS
    assert store.read_bytes() == before
    assert not (tmp_path / ".graft").exists()
    assert not (tmp_path / "outputs").is_dir()
