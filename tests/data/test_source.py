"""The record of where raw images came from."""

from pathlib import Path

import pytest

from graft.data.source import Skipped, Source, data_name, read_source, registered_name


def test_written_and_read(tmp_path: Path) -> None:
    source = Source(
        origin="dvc",
        path="data/photos",
        repo="https://example.org/x.git",
        rev="0123456789abcdef",
        digest="0.dir",
        files=3,
        skipped=(Skipped(path="a", kind="special_file", reason="named pipe"),),
    )
    (tmp_path / "source.json").write_text(source.model_dump_json())
    assert read_source(tmp_path) == source
    assert str(source) == "https://example.org/x.git@0123456789ab:data/photos"


@pytest.mark.parametrize("content", ['{"name": "my own file"}', "[1", "\xff"])
def test_a_file_of_the_user(tmp_path: Path, content: str) -> None:
    (tmp_path / "source.json").write_text(content, encoding="latin-1")
    assert read_source(tmp_path) is None


def test_no_record(tmp_path: Path) -> None:
    assert read_source(tmp_path) is None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data/digits", "digits"),
        ("/home/me/Ants & Bees/", "ants-bees"),
        ("/data/hymenoptera/images", "hymenoptera"),
        ("/data/birds/labels.csv", "birds"),
        ("/data/birds.csv", "birds"),
        ("/srv/flowers-v1.2", "flowers-v1-2"),
        ("/srv/flowers.tar.gz", "flowers"),
        ("/data/train", "train"),
        ("/data/Äpfel", "apfel"),
        ("/", ""),
    ],
)
def test_a_data_set_has_the_name_of_its_folder(path: str, name: str) -> None:
    assert data_name(path) == name


def test_a_relative_path_is_seen_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shells").mkdir()
    monkeypatch.chdir(tmp_path / "shells")
    assert data_name(".") == data_name("images") == "shells"


def test_a_folder_in_a_repository_may_have_the_name_of_that() -> None:
    assert data_name("photos", "https://example.org/birds.git") == "photos"
    assert data_name("images", "https://example.org/birds.git") == "birds"


def test_a_given_name_comes_before_that_of_the_data() -> None:
    assert registered_name("auto", "digits") == "graft-digits"
    assert registered_name("auto", "") == "graft"
    assert registered_name("mine", "digits") == "mine"
