"""What a test set cannot show is said before anything is trained."""

from collections.abc import Callable
from pathlib import Path

import pytest

from graft.params.validate_data import ValidateDataParams
from graft.quality.findings import Finding
from graft.quality.validation import validate
from tests.support.pictures import picture


def split_set(root: Path, test: dict[str, int], train: int = 6) -> Path:
    number = 0
    for split, counts in (("train", dict.fromkeys(test, train)), ("test", test)):
        for place, (label, images) in enumerate(counts.items()):
            (root / split / label).mkdir(parents=True)
            for _ in range(images):
                number += 1
                picture(place, number).save(root / split / label / f"{number}.png")
    return root


def found(root: Path) -> Finding | None:
    findings = validate(root, ValidateDataParams()).findings
    return next((finding for finding in findings if finding.kind == "small_test"), None)


@pytest.mark.parametrize(
    ("test", "severity", "parts"),
    [
        ({"a": 1, "b": 1}, "warn", ["2 test images", "above 0.34", "'a' 0.21 (1), 'b' 0.21 (1)"]),
        ({"a": 4, "b": 4}, "info", ["8 test images", "above 0.68", "'a' 0.51 (4)"]),
        ({"a": 30, "b": 1}, "info", ["31 test images", "above 0.89", "'b' 0.21 (1)"]),
        ({"a": 10, "b": 10}, "info", ["20 test images", "above 0.84"]),
    ],
)
def test_it_names_what_right_answers_would_show(
    tmp_path: Path, test: dict[str, int], severity: str, parts: list[str]
) -> None:
    finding = found(split_set(tmp_path, test))
    assert finding is not None
    assert finding.severity == severity
    for part in parts:
        assert part in finding.message
    assert ("recall" in finding.message) == any(number < 5 for number in test.values())


def test_a_larger_one_is_fine(tmp_path: Path, image_folder: Callable[..., Path]) -> None:
    assert found(split_set(tmp_path, {"a": 15, "b": 15})) is None
