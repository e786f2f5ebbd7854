"""The file that describes an artifact: read, or one line that says what is wrong and which step to run again."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict

from graft.core.artifact import read_spec
from graft.core.errors import DataError, GraftError, ModelError


class Spec(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Literal[3] = 3
    names: tuple[str, ...]


def read(file: Path, error: type[GraftError] = DataError) -> Spec:
    return read_spec(file, Spec, content="shelf", step="build", error=error)


def written(folder: Path, content: Any) -> Path:
    file = folder / "shelf.json"
    file.write_text(json.dumps(content))
    return file


def test_round_trip(tmp_path: Path) -> None:
    spec = Spec(names=("a", "b"))
    assert read(written(tmp_path, spec.model_dump(mode="json"))) == spec


@pytest.mark.parametrize("error", [DataError, ModelError])
def test_an_empty_folder(tmp_path: Path, error: type[GraftError]) -> None:
    with pytest.raises(error) as caught:
        read(tmp_path / "shelf.json", error)
    assert str(caught.value) == f"{tmp_path}: no shelf here (shelf.json is missing); run build"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"version": 2, "names": []}, "shelf of format 2, expected 3; run build again"),
        ({"names": []}, "shelf of format None, expected 3; run build again"),
        ([3], "shelf of format None, expected 3; run build again"),
        ({"version": 3, "names": ["a", 1]}, "names.1: Input should be a valid string; run build again"),
        ({"version": 3, "names": [], "more": 1}, "more: Extra inputs are not permitted; run build again"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, content: Any, line: str) -> None:
    file = written(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read(file)
    assert str(caught.value) == f"{file}: {line}"


def test_invalid_json(tmp_path: Path) -> None:
    (tmp_path / "shelf.json").write_text("{")
    with pytest.raises(GraftError, match=r"shelf\.json: not valid JSON"):
        read(tmp_path / "shelf.json")
