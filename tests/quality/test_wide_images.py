"""Wide images of a set are on one scale: in the findings, on the page, in the dataset and in the backbone's input."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.backbones.backbone import build_backbone
from graft.data.dataset import ImageDataset
from graft.params.validate_data import ValidateDataParams
from graft.quality.validation import validate
from graft.reports.data_page import render
from tests.support.encoded import scene

IMAGES = 12
"""Per class."""


def wide_set(root: Path, dtype: str = "u2", odd: float | None = None) -> Path:
    """Write a dim class and one four times as bright, which differ in nothing else; `odd` is a value of one file."""
    for label, factor in (("dim", 1), ("bright", 4)):
        for number in range(IMAGES):
            pixels = np.asarray(scene(number + IMAGES * factor).convert("L")).astype("f8") * factor * 4
            if odd is not None and (label, number) == ("dim", 3):
                pixels[0, 0] = odd
            file = root / label / f"{number}.{'png' if dtype == 'u2' else 'tif'}"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(dtype)).save(file)
    return root


@pytest.mark.parametrize(("dtype", "white"), [("u2", 4095.0), ("f4", 4095.0), ("i4", 4095.0)])
def test_a_dim_class_stays_dimmer_than_a_bright_one(tmp_path: Path, dtype: str, white: float) -> None:
    validation = validate(wide_set(tmp_path / "raw", dtype), ValidateDataParams())
    assert validation.inventory.values == (0.0, white)
    shade = validation.inventory.images.groupby("label")["brightness"].mean()
    assert shade["bright"] == pytest.approx(4 * shade["dim"], rel=0.3)
    assert f"0 is black and {white:g} white in all 24 images of more than 8 bits" in render(validation)
    dataset = validation.write(tmp_path / "dataset")
    assert dataset.spec.value_range == ImageDataset.read(tmp_path / "dataset").spec.value_range == (0.0, white)


def test_the_second_examination_is_cached_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = wide_set(tmp_path / "raw", "f4")
    first = validate(folder, ValidateDataParams())
    again = validate(folder, ValidateDataParams())
    assert first.inventory.images.equals(again.inventory.images)


def test_the_range_may_be_given(tmp_path: Path) -> None:
    validation = validate(wide_set(tmp_path / "raw"), ValidateDataParams(value_range=(0.0, 1000.0)))
    assert validation.inventory.values == (0.0, 1000.0)


@pytest.mark.parametrize(
    ("odd", "kind"),
    [(-5.0, "negative_values"), (np.nan, "not_finite"), (np.inf, "not_finite"), (-np.inf, "not_finite")],
)
def test_negative_values_nan_and_infinities_are_findings(tmp_path: Path, odd: float, kind: str) -> None:
    validation = validate(wide_set(tmp_path / "raw", "f4", odd), ValidateDataParams())
    found = {finding.kind: finding for finding in validation.findings}
    assert found[kind].files == ("dim/3.tif",)
    assert not {"negative_values", "not_finite"} - {kind} & set(found)
    assert all(map(np.isfinite, validation.inventory.values or ()))


@pytest.mark.parametrize(
    ("dtype", "odd", "usual"), [("u2", 65535.0, "[0,4095]"), ("f4", 3.4e38, "[0,4095]"), ("f4", -1e6, "[0,4095]")]
)
def test_a_few_values_far_off_are_a_finding_that_names_the_range(
    tmp_path: Path, dtype: str, odd: float, usual: str
) -> None:
    folder = wide_set(tmp_path / "raw", dtype, odd)
    found = validate(folder, ValidateDataParams())
    finding = next(one for one in found.findings if one.kind == "stretched_range")
    assert [Path(path).stem for path in finding.files] == ["3"]
    assert finding.remedy.endswith(f"set validate_data.value_range={usual}")
    mended = validate(folder, ValidateDataParams.model_validate({"value_range": json.loads(usual)}))
    assert "stretched_range" not in {one.kind for one in mended.findings}
    contrast = [one.inventory.images["contrast"].median() for one in (found, mended)]
    assert contrast[1] > 10 * contrast[0]


@pytest.mark.parametrize("dtype", ["u2", "f4", "i4"])
def test_classes_of_other_brightness_stretch_nothing(tmp_path: Path, dtype: str) -> None:
    found = validate(wide_set(tmp_path / "raw", dtype), ValidateDataParams())
    assert "stretched_range" not in {one.kind for one in found.findings}


def test_empty_alpha_is_a_finding_and_not_transparency(tmp_path: Path, image_folder: object) -> None:
    for label in ("a", "b"):
        for number in range(6):
            pixels = np.dstack([np.asarray(scene(number + 10 * ord(label))), np.zeros((72, 96), np.uint8)])
            (tmp_path / label).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / label / f"{number}.png")
    kinds = {finding.kind: finding.count for finding in validate(tmp_path, ValidateDataParams()).findings}
    assert kinds["empty_alpha"] == 12
    assert "transparent" not in kinds
    assert "uniform" not in kinds


def test_the_backbone_takes_the_range_and_its_fingerprint_tells_it() -> None:
    plain, wide = (build_backbone("resnet18", "none", image_size=32, value_range=v) for v in (None, (0.0, 4095.0)))
    assert wide.spec.transform.value_range == (0.0, 4095.0)
    assert plain.fingerprint() != wide.fingerprint()
