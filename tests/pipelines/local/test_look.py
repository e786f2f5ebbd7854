"""What is looked at before a run."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from graft.core.errors import DataError
from graft.params.get_data import GetDataParams
from graft.params.params import Params
from graft.params.validate_data import ValidateDataParams
from pipelines.local.look import look
from tests.support.drawn_masks import write_pairs
from tests.support.drawn_objects import write_coco, write_numbered
from tests.support.pictures import MakeImages


def of(source: Path, **section: object) -> Params:
    validate_data = ValidateDataParams.model_validate(section)
    return Params(get_data=GetDataParams(source=str(source)), validate_data=validate_data)


def test_it_says_what_will_happen(image_folder: MakeImages, tmp_path: Path) -> None:
    folder = image_folder({"train": {"cat": 12, "dog": 9}, "dev": {"cat": 4, "dog": 4}})
    ahead = look(of(folder), tmp_path / "out")
    said = dict(ahead.lines())
    assert "split folders, 2 classes" in said["read as"]
    assert "draws val from train" in said["a run"]
    assert said["time"].startswith("about ")
    assert f"{tmp_path}/out/report.html" in said["leaves"]
    assert ahead.name in said["leaves"]
    assert not (tmp_path / "out").exists()


def test_a_manifest_is_counted(image_folder: MakeImages, tmp_path: Path) -> None:
    folder = image_folder({"cat": 2, "dog": 2})
    lines = [f"{path.relative_to(folder)},{path.parent.name}" for path in sorted(folder.glob("*/*.png"))]
    (folder / "birds.csv").write_text("\n".join(["path,label", *lines]))
    ahead = look(of(folder / "birds.csv"), tmp_path / "out")
    assert dict(ahead.lines())["data"].endswith("birds.csv: 4 images")
    assert ahead.name == "graft-birds"


def test_one_class_may_be_allowed(image_folder: MakeImages, tmp_path: Path) -> None:
    folder = image_folder({"cat": 4})
    with pytest.raises(DataError, match="all images are of one class, 'cat'"):
        look(of(folder), tmp_path / "out")
    look(of(folder, severity={"one_class": "ignore"}), tmp_path / "out")


def test_ten_thousand_images_take_a_moment(image_folder: MakeImages, tmp_path: Path) -> None:
    folder = image_folder({"cat": 4, "dog": 4})
    for number in range(10_000):
        (folder / ("cat" if number % 2 else "dog") / f"{number}.png").hardlink_to(folder / "cat/0000.png")
    started = time.process_time()
    ahead = look(of(folder), tmp_path / "out")
    assert time.process_time() - started < 20, "it grows faster than the folder"
    assert dict(ahead.lines())["images"].startswith("10,008 in 2 classes")


@pytest.mark.parametrize(("task", "write"), [("segment", write_pairs), ("instances", write_numbered)])
def test_photos_with_masks_are_counted_and_are_no_classes(
    tmp_path: Path, task: str, write: Callable[[Path, int], Path]
) -> None:
    folder = write(tmp_path / "shapes", 5)
    ahead = look(of(folder, task=task), tmp_path / "out")
    assert dict(ahead.lines())["data"].endswith("shapes: 5 images")
    assert ahead.name == "graft-shapes"


def test_photos_of_a_coco_file_are_counted(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "shapes", 4)
    assert look(of(folder, task="instances"), tmp_path / "out").images == 4
    with pytest.raises(DataError, match="all images are of one class, 'images'"):
        look(of(folder), tmp_path / "out")
