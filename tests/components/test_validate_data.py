"""The step: dataset and page where the verdict allows it, the page alone where it does not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from components.validate_data.step import validate_data
from graft.data.dataset import ImageDataset

MakeImages = Callable[..., Path]


def run(folder: Path, out: Path, **params: object) -> dict[str, object]:
    return dict(
        validate_data.run(
            params=params, metrics=out / "metrics.json", raw=folder, dataset=out / "dataset", page=out / "page"
        )
    )


def test_a_passing_folder(image_folder: MakeImages, tmp_path: Path, store: Path) -> None:
    metrics = run(image_folder({"cat": 8, "dog": 8}), tmp_path / "out")
    dataset = ImageDataset.read(tmp_path / "out/dataset")
    assert metrics["digest"] == dataset.spec.digest
    assert metrics["images"] == len(dataset) == 16
    assert metrics["classes"] == ["cat", "dog"]
    assert metrics["counts"] == dataset.counts()
    assert metrics["verdict"] == "pass"
    assert metrics["findings"] == {"small_test": 2}
    assert metrics["warnings"] == []
    assert {file.name for file in (tmp_path / "out/page").iterdir()} == {
        "SHA256SUMS",
        "data.html",
        "findings.json",
        "suite.json",
        "results.json",
        "images.parquet",
    }


def test_the_page_outlives_a_failing_verdict(image_folder: MakeImages, tmp_path: Path, store: Path) -> None:
    folder = image_folder({"cat": 8, "dog": 8})
    (folder / "cat/bad.jpg").write_bytes(b"")
    with pytest.raises(SystemExit, match=r"validate_data: empty_file: 1 bad image: cat/bad.jpg \(the file is empty"):
        run(folder, tmp_path / "out")
    assert not (tmp_path / "out/dataset").exists()
    found = json.loads((tmp_path / "out/page/findings.json").read_text())
    assert set(found[0]) == {"kind", "severity", "count", "files", "message", "remedy", "groups"}
    assert (found[0]["kind"], found[0]["severity"], found[0]["files"]) == ("empty_file", "fail", ["cat/bad.jpg"])


def test_the_digest_is_that_of_the_content(image_folder: MakeImages, tmp_path: Path, store: Path) -> None:
    first = run(image_folder({"cat": 8, "dog": 8}), tmp_path / "one")
    second = run(image_folder({"cat": 8, "dog": 8}, name="again"), tmp_path / "two")
    assert first["digest"] == second["digest"]
    other = run(image_folder({"cat": 8, "dog": 9}, name="more"), tmp_path / "three")
    assert first["digest"] != other["digest"]
