"""No image is left out on a verdict of pass: each that is not used is counted, and many of them fail the data."""

import shutil
from pathlib import Path

import pytest

from graft.data.records import SPLITS
from graft.params.params import Params
from graft.params.validate_data import ValidateDataParams
from graft.quality.validation import validate
from tests.support.pictures import MakeImages


@pytest.fixture
def folder(image_folder: MakeImages) -> Path:
    return image_folder({"train": {"cat": 12, "dog": 12}, "test": {"cat": 6, "dog": 6}, "extra": {"cat": 12}})


def test_many_images_that_are_not_used_fail(folder: Path) -> None:
    found = validate(folder, ValidateDataParams())
    (finding,) = (one for one in found.findings if one.kind == "left_out")
    assert found.verdict == "fail"
    assert finding.count == 12
    assert finding.message == "left_out: 12 images are in no class folder of a split and not used: extra/cat/ 12"


def test_the_remedy_goes_on_without_them(folder: Path) -> None:
    found = validate(folder, ValidateDataParams())
    (advice,) = (word for word in found.failure().split() if word.startswith("validate_data."))
    section = Params.load(overrides=[advice]).validate_data
    accepted = validate(folder, section)
    assert accepted.verdict == "warn"
    assert sum(sum(accepted.counts[split].values()) for split in SPLITS) == 36


def test_a_few_are_a_warning(image_folder: MakeImages) -> None:
    folder = image_folder({"cat": 60, "dog": 60})
    shutil.copy(folder / "cat/0000.png", folder / "loose.png")
    found = validate(folder, ValidateDataParams(severity={"exact_duplicate": "ignore"}))
    assert found.verdict == "warn"
    assert {finding.kind for finding in found.findings} - {"small_test"} == {"left_out"}
    for number in range(1, 4):
        shutil.copy(folder / f"cat/000{number}.png", folder / f"loose{number}.png")
    assert validate(folder, ValidateDataParams()).verdict == "fail"


def test_it_is_said_before_any_image_is_opened(folder: Path) -> None:
    said: list[str] = []
    validate(folder, ValidateDataParams(), said.append)
    assert said == [
        f"{folder}: read as split folders, 2 classes, splits train/, test/; folder level 2 is the class "
        "(test/, train/ are splits)"
    ]
