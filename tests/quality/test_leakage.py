"""Photographs in two given splits: the copies outside the test set go, the test set stays whole, and all is said."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.imaging.decode import decode
from graft.params.validate_data import ValidateDataParams
from graft.quality.validation import Validation, validate
from pipelines.console.validating import validate as command
from tests.support.encoded import encoded, scene

Copy = Callable[[Image.Image], bytes]
COPIES: dict[str, Copy] = {
    "the same bytes": lambda image: encoded(image, "PNG"),
    "another format": lambda image: encoded(image, "WEBP", quality=70),
    "half as large": lambda image: encoded(image.resize((image.width // 2, image.height // 2)), "JPEG", quality=80),
    "mirrored": lambda image: encoded(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "JPEG", quality=85),
    "turned": lambda image: encoded(image.transpose(Image.Transpose.ROTATE_90), "PNG"),
    "grey": lambda image: encoded(image.convert("L"), "PNG"),
}


def given_splits(root: Path, train: int = 12, val: int = 4, test: int = 5) -> Path:
    """Write different pictures of two classes into given splits."""
    number = 0
    for split, images in (("train", train), ("val", val), ("test", test)):
        for label in ("ant", "bee"):
            (root / split / label).mkdir(parents=True, exist_ok=True)
            for _ in range(images):
                number += 1
                scene(number).save(root / split / label / f"{number}.png")
    return root


def judged(root: Path, **params: object) -> Validation:
    return validate(root, ValidateDataParams.model_validate(params))


def leak(found: Validation) -> str:
    return next(finding.message for finding in found.findings if finding.kind == "leakage")


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_of_a_test_image_leaves_the_other_splits(tmp_path: Path, kind: str) -> None:
    root = given_splits(tmp_path)
    test = sorted((root / "test/ant").iterdir())
    copies = {}
    for split, file in (("train", test[0]), ("train", test[1]), ("val", test[2])):
        copy = root / split / "ant" / f"copy-{file.stem}.img"
        copy.write_bytes(COPIES[kind](Image.fromarray(decode(file.read_bytes()))))
        copies[f"{split}/ant/{copy.name}"] = file
    found = judged(root)
    kept = found.inventory.kept
    assert found.verdict == "warn"
    assert not {*copies} & {*kept["path"]}
    assert len(kept) == 42
    assert found.counts["test"] == {"ant": 5, "bee": 5}
    assert "3 left out, outside the test set" in leak(found)
    assert "answer 3 of 10 test images from memory" in leak(found)


def test_a_training_image_in_the_validation_split_stays_there(tmp_path: Path) -> None:
    root = given_splits(tmp_path)
    file = min((root / "val/bee").iterdir())
    shutil.copy(file, root / "train/bee/copy.png")
    found = judged(root)
    assert found.counts["val"] == {"ant": 4, "bee": 4}
    assert found.counts["train"] == {"ant": 12, "bee": 12}
    assert "from memory" not in leak(found)


def test_a_copy_under_another_label_is_told_as_both(tmp_path: Path) -> None:
    root = given_splits(tmp_path)
    shutil.copy(min((root / "test/bee").iterdir()), root / "train/ant/wrong.png")
    found = judged(root)
    assert {"leakage", "contradiction"} <= {finding.kind for finding in found.findings}
    assert "train/ant/wrong.png" not in {*found.inventory.kept["path"]}


def test_a_training_set_that_is_the_test_set_fails_in_one_line(tmp_path: Path) -> None:
    root = given_splits(tmp_path, train=6, val=0, test=6)
    for label in ("ant", "bee"):
        shutil.rmtree(root / "train" / label)
        shutil.copytree(root / "test" / label, root / "train" / label)
    found = judged(root)
    assert found.verdict == "fail"
    assert found.counts["test"] == {"ant": 6, "bee": 6}
    assert "12 left out, outside the test set" in leak(found)
    assert len(found.failure().splitlines()) == 1


def test_what_the_leak_would_add_is_what_a_memory_answers(tmp_path: Path) -> None:
    """A model that knows its training pictures by heart and guesses the rest gains as much as the finding says."""
    root = given_splits(tmp_path, test=10)
    for file in sorted((root / "test/ant").iterdir())[:4]:
        shutil.copy(file, root / "train/ant" / f"copy-{file.name}")
    found = judged(root)
    names = {split: sorted((root / split).glob("*/*")) for split in ("train", "test")}
    known = {file.read_bytes() for file in names["train"]}
    answered = np.mean([file.read_bytes() in known for file in names["test"]])
    assert f"up to {100 * answered:.1f} points too high" in leak(found)
    known = {(root / path).read_bytes() for path in found.inventory.kept["path"] if path.startswith("train/")}
    assert not any(file.read_bytes() in known for file in names["test"])


def test_the_command_says_it_and_the_page_lists_them(tmp_path: Path, root: Path, capsys: object) -> None:
    data = given_splits(tmp_path / "data")
    shutil.copy(min((data / "test/bee").iterdir()), data / "train/bee/copy.png")
    command(str(data), tmp_path / "out", file=root / "params.yaml")
    told = capsys.readouterr().out  # type: ignore[attr-defined]
    assert "leakage: 1 picture or group in more than one split; 1 left out" in told
    page = (tmp_path / "out/data.html").read_text()
    assert "train/bee/copy.png" in page
    assert "points too high" in page
    with pytest.raises(SystemExit):
        command(str(data), tmp_path / "gate", "validate_data.on_leakage=fail", root / "params.yaml")
