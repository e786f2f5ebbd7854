"""Objects are read from COCO files and from masks that number them; what is wrong is named before training."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from graft.core.errors import DataError
from graft.objects.object_dataset import ObjectDataset
from graft.params.validate_data import ValidateDataParams
from graft.pixel_quality.object_validation import ObjectValidation, validate_objects
from graft.quality.findings import Finding
from tests.support.drawn_masks import write_pairs
from tests.support.drawn_objects import KINDS, scene, write_coco, write_numbered

Content = dict[str, Any]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos of drawn objects, with a COCO file and with masks."""
    work = tmp_path_factory.mktemp("good")
    write_coco(work / "coco", 12)
    write_numbered(work / "numbered", 12)
    return work


def checked(root: Path, **values: Any) -> ObjectValidation:
    return validate_objects(root, ValidateDataParams.model_validate({"task": "instances", **values}))


def finding(found: ObjectValidation, kind: str) -> Finding:
    (one,) = [each for each in found.findings if each.kind == kind]
    return one


def test_polygons_and_runs_become_the_drawn_masks(good: Path, tmp_path: Path) -> None:
    found = checked(good / "coco")
    assert found.verdict != "fail", found.failure()
    dataset = found.write(tmp_path / "dataset", "shapes")
    assert dataset.task.labels == KINDS
    assert dataset.spec.name == "shapes"
    for row, path in enumerate(dataset.table["path"]):
        _, numbers, kinds = scene(int(Path(path).stem))
        objects = dataset.objects(row)
        assert [one.label for one in objects] == [kind for _, kind in kinds]
        for one, (number, _) in zip(objects, kinds, strict=True):
            assert (one.code.mask() == (numbers == number)).all()
    assert found.picture is not None
    assert found.picture(0).startswith(b"\xff\xd8")


def test_masks_number_objects_of_one_kind_with_8_or_16_bits(good: Path, tmp_path: Path) -> None:
    found = checked(good / "numbered", mask_values={0: "background", 1: "shape"})
    assert found.verdict != "fail", found.failure()
    dataset = found.write(tmp_path / "dataset")
    assert dataset.task.labels == ("shape",)
    for row, path in enumerate(dataset.table["path"]):
        _, numbers, kinds = scene(int(Path(path).stem))
        found_masks = [one.code.mask() for one in dataset.objects(row)]
        assert len(found_masks) == len(kinds)
        assert (np.sum(found_masks, axis=0) == (numbers > 0)).all()


def test_the_digest_follows_the_objects(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good / "coco", tmp_path / "data")
    first = checked(tmp_path / "data").write(tmp_path / "first")
    content = json.loads((tmp_path / "data/annotations.json").read_text())
    content["annotations"][0]["category_id"] = 3 - content["annotations"][0]["category_id"]
    (tmp_path / "data/annotations.json").write_text(json.dumps(content))
    assert checked(tmp_path / "data").write(tmp_path / "second").spec.digest != first.spec.digest
    assert ObjectDataset.open(tmp_path / "first").spec == first.spec


def few_points(content: Content) -> None:
    content["annotations"][0]["segmentation"] = [[1.0, 2.0, 3.0, 4.0]]


def outside(content: Content) -> None:
    content["annotations"][0]["segmentation"] = [[10, 10, 500, 10, 500, 40]]


def other_runs(content: Content) -> None:
    content["annotations"][0]["segmentation"] = {"size": [72, 96], "counts": [5, 7]}


def other_code(content: Content) -> None:
    content["annotations"][0]["segmentation"] = {"size": [36, 48], "counts": [5, 1723]}


def flat(content: Content) -> None:
    content["annotations"][0]["segmentation"] = [[10, 10, 40, 10, 10, 10]]


def tiny(content: Content) -> None:
    content["annotations"][0]["segmentation"] = [[10, 10, 12, 10, 12, 12, 10, 12]]


def other_size(content: Content) -> None:
    content["images"][3] |= {"width": 48, "height": 36}


def missing_photo(content: Content) -> None:
    content["images"][3]["file_name"] = "nowhere.png"


@pytest.mark.parametrize(
    ("damage", "kind", "text"),
    [
        (few_points, "polygon", "images/000.png (a polygon of 2 points)"),
        (outside, "polygon", "a polygon outside of its photo of 96 x 72"),
        (other_runs, "polygon", "an outline that cannot be read (runs of 12 pixels for a mask of 72 x 96)"),
        (other_code, "polygon", "a run-length code of [36, 48] for a photo of [72, 96]"),
        (tiny, "tiny_object", "4 pixels"),
        (flat, "tiny_object", "0 pixels"),
        (other_size, "mask_size", "images/003.png (outlined at 48 x 36, photo 96 x 72)"),
        (missing_photo, "missing_file", "annotations.json names a photo that is not there"),
    ],
)
def test_a_broken_object_fails_with_one_line(
    good: Path, tmp_path: Path, damage: Callable[[Content], None], kind: str, text: str
) -> None:
    shutil.copytree(good / "coco", tmp_path / "data")
    file = tmp_path / "data/annotations.json"
    content = json.loads(file.read_text())
    damage(content)
    file.write_text(json.dumps(content))
    found = checked(tmp_path / "data")
    one = finding(found, kind)
    assert one.severity == "fail"
    assert text in one.message
    assert found.failure().startswith(kind)


def unknown_category(content: Content) -> None:
    content["annotations"][0]["category_id"] = 9


def unknown_image(content: Content) -> None:
    content["annotations"][0]["image_id"] = 99


def list_as_image(content: Content) -> None:
    content["annotations"][0]["image_id"] = [1]


def twice(content: Content) -> None:
    content["annotations"][1]["id"] = content["annotations"][0]["id"]


def box_alone(content: Content) -> None:
    del content["annotations"][0]["segmentation"]


def same_names(content: Content) -> None:
    content["categories"][1]["name"] = content["categories"][0]["name"]


def same_image(content: Content) -> None:
    content["images"][1]["id"] = content["images"][0]["id"]


def same_file(content: Content) -> None:
    content["images"][1]["file_name"] = content["images"][0]["file_name"]


def no_file(content: Content) -> None:
    del content["images"][0]["file_name"]


def no_id(content: Content) -> None:
    del content["annotations"][0]["id"]


def no_list(content: Content) -> None:
    content["annotations"] = {}


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (same_image, "image id 0 appears twice"),
        (same_file, "two images have the same file_name"),
        (no_file, "has no file_name"),
        (no_id, "annotation without an id"),
        (no_list, "not a COCO file; it needs lists of images, annotations and categories"),
        (unknown_category, "annotation 1 names category 9, which is not among the categories"),
        (unknown_image, "annotation 1 names image 99, which is not among the images"),
        (list_as_image, "annotation 1 names image [1], which is not among the images"),
        (twice, "annotation id 1 appears twice"),
        (box_alone, "annotation 1 has no segmentation"),
        (same_names, "two categories have the same name"),
    ],
)
def test_a_broken_file_is_refused_with_one_line(
    good: Path, tmp_path: Path, damage: Callable[[Content], None], text: str
) -> None:
    shutil.copytree(good / "coco", tmp_path / "data")
    file = tmp_path / "data/annotations.json"
    content = json.loads(file.read_text())
    damage(content)
    file.write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        checked(tmp_path / "data")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def other_categories(first: Content, second: Content) -> None:
    second["categories"][0]["name"] = "other"
    second["images"], second["annotations"] = [], []


def the_same_photo(first: Content, second: Content) -> None:
    second["annotations"] = []


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (other_categories, "its categories differ from those of instances_train.json"),
        (the_same_photo, "is in another annotation file too"),
    ],
)
def test_files_that_contradict_each_other_are_refused(
    good: Path, tmp_path: Path, damage: Callable[[Content, Content], None], text: str
) -> None:
    shutil.copytree(good / "coco/images", tmp_path / "data/images")
    first, second = (json.loads((good / "coco/annotations.json").read_text()) for _ in range(2))
    damage(first, second)
    (tmp_path / "data/annotations").mkdir()
    for name, content in (("train", first), ("val", second)):
        (tmp_path / f"data/annotations/instances_{name}.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=text):
        checked(tmp_path / "data")


def test_crowds_are_kept_apart_and_small_objects_left_out_where_that_is_asked_for(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good / "coco", tmp_path / "data")
    file = tmp_path / "data/annotations.json"
    content = json.loads(file.read_text())
    tiny(content)
    content["annotations"][1]["iscrowd"] = 1
    file.write_text(json.dumps(content))
    found = checked(tmp_path / "data", severity={"tiny_object": "warn"})
    assert found.verdict == "warn"
    dataset = found.write(tmp_path / "dataset")
    objects = [one for row in range(len(dataset)) for one in dataset.objects(row)]
    assert len(objects) == len(content["annotations"]) - 1
    assert sum(one.crowd for one in objects) == 1


def test_colours_in_place_of_numbers_are_refused(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good / "numbered", tmp_path / "data")
    Image.new("RGB", (96, 72), (200, 10, 10)).save(tmp_path / "data/masks/002.png")
    one = finding(checked(tmp_path / "data"), "mask_colours")
    assert one.severity == "fail"
    assert "by a table of colours" in one.remedy


def test_photos_without_objects_are_told(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good / "numbered", tmp_path / "data")
    Image.new("L", (96, 72)).save(tmp_path / "data/masks/002.png")
    assert finding(checked(tmp_path / "data"), "no_objects").files == ("images/002.png",)


def test_data_that_does_not_fit_the_task_is_told_in_one_line(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 20)).save(tmp_path / name / "a.png")
    with pytest.raises(DataError, match=r"these are class folders .* and task instances needs"):
        checked(tmp_path)


def test_several_kinds_in_masks_that_number_objects_are_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path / "data", 6)
    with pytest.raises(DataError, match="masks that number objects have one kind, found disc, square"):
        checked(tmp_path / "data", mask_values={0: "background", 1: "disc", 2: "square"})


def test_files_named_by_their_split_give_the_splits(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good / "coco/images", tmp_path / "data/images")
    content = json.loads((good / "coco/annotations.json").read_text())
    (tmp_path / "data/annotations").mkdir()
    for split, images in (("train", content["images"][:8]), ("val", content["images"][8:])):
        ids = {image["id"] for image in images}
        part = {**content, "images": images}
        part["annotations"] = [one for one in content["annotations"] if one["image_id"] in ids]
        (tmp_path / f"data/annotations/instances_{split}2017.json").write_text(json.dumps(part))
    found = checked(tmp_path / "data", severity={"empty_split": "warn"})
    assert sum(part["photos"] for part in found.counts.values()) == 12
    assert found.counts["test"] == {"photos": 4}  # the second split of two is the test set


def test_a_set_from_the_field_is_read(shared: Path) -> None:
    found = checked(shared / "data/nuts_coco", val_fraction=0.0, test_fraction=1 / 3, severity={"empty_split": "warn"})
    assert found.verdict != "fail", found.failure()
    assert found.task.labels == ("date", "fig", "hazelnut")
    assert found.counts == {"train": {"photos": 12}, "test": {"photos": 6}}
    assert sum(len(objects) for objects in found.objects.values()) == 165
