"""The record of where raw images came from."""

from pathlib import Path

import pytest

from graft.data.source import Skipped, Source, read_source


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
