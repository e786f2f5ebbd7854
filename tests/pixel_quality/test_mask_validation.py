"""What is wrong with masks is found and named before anything is trained."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.validate_data.step import validate_data
from graft.core.errors import DataError
from graft.masks.dataset import MaskDataset
from graft.params.validate_data import ValidateDataParams
from graft.pixel_quality.mask_validation import MaskValidation, validate_masks
from graft.quality.findings import Finding
from graft.runs.run_log import SilentLog
from tests.support.drawn_masks import NAMES, write_pairs


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos with masks of three shapes."""
    return write_pairs(tmp_path_factory.mktemp("good") / "data", 12, (48, 36))


@pytest.fixture
def data(good: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(good, tmp_path / "data")
    return tmp_path / "data"


def params(**values: Any) -> ValidateDataParams:
    return ValidateDataParams.model_validate({"task": "segment", "mask_values": NAMES, **values})


def finding(found: MaskValidation, kind: str) -> Finding:
    (one,) = [each for each in found.findings if each.kind == kind]
    return one


def missing(root: Path) -> None:
    (root / "masks/003.png").unlink()


def jpeg(root: Path) -> None:
    Image.open(root / "masks/003.png").save(root / "masks/003.jpg")
    (root / "masks/003.png").unlink()


def coloured(root: Path) -> None:
    Image.new("RGB", (48, 36), (200, 10, 10)).save(root / "masks/003.png")


def other_shape(root: Path) -> None:
    Image.new("L", (48, 48)).save(root / "masks/003.png")


def unnamed(root: Path) -> None:
    Image.fromarray(np.full((36, 48), 77, np.uint8)).save(root / "masks/003.png")


def rotated(root: Path) -> None:
    photo = Image.open(root / "images/003.png").convert("RGB")
    exif = Image.Exif()
    exif[274] = 6
    photo.save(root / "images/003.jpg", exif=exif)
    (root / "images/003.png").unlink()


def broken(root: Path) -> None:
    (root / "masks/003.png").write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("damage", "kind", "text"),
    [
        (broken, "mask_unreadable", "003"),
        (missing, "mask_missing", "no mask of this name"),
        (jpeg, "mask_lossy", "JPEG"),
        (coloured, "mask_colours", "colours"),
        (other_shape, "mask_size", "mask 48 x 48, photo 48 x 36"),
        (unnamed, "mask_values", "values 77 without a name"),
        (rotated, "mask_rotated", "after its EXIF rotation"),
    ],
)
def test_a_mask_that_cannot_be_learnt_from_fails_and_is_named(
    data: Path, damage: Callable[[Path], None], kind: str, text: str
) -> None:
    damage(data)
    found = validate_masks(data, params())
    assert found.verdict == "fail"
    one = finding(found, kind)
    assert one.severity == "fail"
    assert text in one.message
    assert "003" in one.files[0]
    dropped = validate_masks(data, params(on_bad_image="drop"))
    assert finding(dropped, kind).severity == "warn"
    assert sum(counts["photos"] for counts in dropped.counts.values()) == 11


def test_a_resized_copy_is_information_and_an_empty_mask_a_warning(data: Path) -> None:
    Image.open(data / "masks/000.png").resize((24, 18), Image.Resampling.NEAREST).save(data / "masks/000.png")
    Image.new("L", (48, 36)).save(data / "masks/001.png")
    Image.new("L", (48, 36), 2).save(data / "masks/002.png")
    found = validate_masks(data, params())
    assert found.verdict == "warn"
    assert finding(found, "mask_resized").files == ("images/000.png",)
    assert finding(found, "mask_empty").files == ("images/001.png",)
    assert finding(found, "mask_full").files == ("images/002.png",)


def test_two_values_are_background_and_foreground_and_said_so(tmp_path: Path) -> None:
    write_pairs(tmp_path, 8, (48, 36), kinds=(1,))
    for file in (tmp_path / "masks").iterdir():
        Image.fromarray(np.asarray(Image.open(file)) * np.uint8(255)).save(file)
    found = validate_masks(tmp_path, params(mask_values={}))
    assert found.task.labels == ("background", "foreground")
    assert "0 is background, 255 is foreground" in finding(found, "mask_binary").message
    written = found.write(tmp_path / "dataset")
    assert set(np.unique(written.mask(0))) == {0, 1}


def test_three_values_with_255_have_an_ignored_one(data: Path) -> None:
    for file in (data / "masks").iterdir():
        mask = np.asarray(Image.open(file)).copy()
        mask[:2] = 255
        Image.fromarray(mask).save(file)
    found = validate_masks(data, params())
    assert found.verdict != "fail"
    assert (found.write(data / "dataset").mask(0)[:2] == 255).all()


def test_a_class_that_training_never_sees_fails(data: Path) -> None:
    rows = ["path,mask,split"]
    for number in range(12):
        split = "test" if number < 4 else "val" if number < 6 else "train"
        rows.append(f"images/{number:03d}.png,masks/{number:03d}.png,{split}")
        if split == "train":
            file = data / "masks" / f"{number:03d}.png"
            mask = np.asarray(Image.open(file)).copy()
            mask[mask == 3] = 0
            Image.fromarray(mask).save(file)
    (data / "manifest.csv").write_text("\n".join(rows))
    found = validate_masks(data, params())
    assert "'triangle' is in no training mask" in finding(found, "label_not_in_train").message


def test_a_class_that_a_split_lacks_and_a_mask_without_photo_are_told(data: Path) -> None:
    for number in range(4):
        file = data / "masks" / f"{number:03d}.png"
        mask = np.asarray(Image.open(file)).copy()
        mask[mask == 3] = 0
        Image.fromarray(mask).save(file)
    rows = [
        f"images/{number:03d}.png,masks/{number:03d}.png,{'test' if number < 4 else 'val' if number < 6 else 'train'}"
        for number in range(12)
    ]
    (data / "manifest.csv").write_text("\n".join(["path,mask,split", *rows]))
    found = validate_masks(data, params())
    assert "'triangle'" in finding(found, "label_not_in_split").message
    (data / "manifest.csv").unlink()
    shutil.copy(data / "masks/000.png", data / "masks/lonely.png")
    assert "lonely" in finding(validate_masks(data, params()), "mask_alone").files[0]


def test_the_same_photo_in_two_splits_is_told(data: Path) -> None:
    shutil.copy(data / "images/000.png", data / "images/011.png")
    shutil.copy(data / "masks/000.png", data / "masks/011.png")
    rows = [
        f"images/{number:03d}.png,masks/{number:03d}.png,{'train' if number < 8 else 'val' if number < 10 else 'test'}"
        for number in range(12)
    ]
    (data / "manifest.csv").write_text("\n".join(["path,mask,split", *rows]))
    found = validate_masks(data, params(on_leakage="fail"))
    assert found.verdict == "fail"
    assert finding(found, "leakage").severity == "fail"


@pytest.mark.parametrize(
    ("manifest", "text"),
    [
        ("path,label\nimages/000.png,a", "no column 'mask'; task segment needs path and mask"),
        ("path,mask,split\nimages/000.png,masks/000.png,exam", "split 'exam'; expected train, val or test"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_with_one_line(data: Path, manifest: str, text: str) -> None:
    (data / "manifest.csv").write_text(manifest)
    with pytest.raises(DataError) as caught:
        validate_masks(data, params())
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_class_folders_are_refused_with_one_line(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 20)).save(tmp_path / name / "a.png")
    with pytest.raises(DataError, match=r"these are class folders .* and task segment needs"):
        validate_masks(tmp_path, params())


def test_the_step_writes_a_dataset_and_a_page_with_masks(good: Path, tmp_path: Path) -> None:
    result = validate_data(good, tmp_path / "dataset", tmp_path / "page", params(), SilentLog())
    assert result["classes"] == list(NAMES.values())
    assert sum(counts["photos"] for counts in result["counts"].values()) == 12
    read = MaskDataset.read(tmp_path / "dataset", "segment")
    assert len(read) == 12
    assert read.spec.digest == result["digest"]
    assert "data:image/jpeg;base64" in (tmp_path / "page" / "data.html").read_text()


def test_a_classifier_refuses_masks_in_one_line(good: Path, tmp_path: Path) -> None:
    from graft.data.dataset import ImageDataset

    validate_masks(good, params()).write(tmp_path / "dataset")
    with pytest.raises(DataError, match="this is of task segment"):
        ImageDataset.read(tmp_path / "dataset")
