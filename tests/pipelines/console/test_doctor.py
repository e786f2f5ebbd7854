"""`graft doctor`: one screen about a folder, in seconds."""

import time
from pathlib import Path

import pytest

from graft.quality.doctor import diagnose
from graft.runs.params import ValidateDataParams
from pipelines.console.looking import doctor
from tests.support.encoded import png
from tests.support.pictures import MakeImages


def screen(capsys: pytest.CaptureFixture[str], folder: Path, params: str = "") -> str:
    doctor(folder, params)
    return capsys.readouterr().out


def test_one_screen_says_how_what_and_how_long(image_folder: MakeImages, capsys: pytest.CaptureFixture[str]) -> None:
    folder = image_folder({"train": {"cat": 12, "dog": 9}, "dev": {"cat": 4, "dog": 4}})
    (folder / "train/cat/broken.jpg").write_bytes(b"no picture")
    (folder / "loose.png").write_bytes(png(8, 8))
    text = screen(capsys, folder)
    assert len(text.splitlines()) < 20
    assert "read as split folders, 2 classes, splits train/, dev/" in text
    assert "30 in 2 classes: cat 17 to dog 13" in text
    assert "PNG; median 24 x 24 pixels (of 30 opened)" in text
    assert "1 left_out: loose.png (in no class folder of a split)" in text
    assert "1 of 30 opened files undecodable: not an image" in text
    assert "keeps the splits (train 22, test 8) and draws val from train" in text
    assert "without fine-tuning" in text


def test_a_folder_that_can_be_read_in_two_ways(image_folder: MakeImages, capsys: pytest.CaptureFixture[str]) -> None:
    folder = image_folder({"animal": {"dog": 6, "cat": 6}, "plant": {"rose": 6}})
    with pytest.raises(SystemExit, match=r"doctor: .* can be read in 2 ways: .*validate_data.label_level=2"):
        screen(capsys, folder)
    text = screen(capsys, folder, "validate_data.label_level=2")
    assert "3 classes" in text
    assert "draws the splits: about 12 images to train" in text


def test_ten_thousand_images_take_seconds(image_folder: MakeImages) -> None:
    folder = image_folder({"cat": 4, "dog": 4})
    content = (folder / "cat/0000.png").read_bytes()
    for number in range(10_000):
        (folder / ("cat" if number % 2 else "dog") / f"{number}.png").write_bytes(content)
    started = time.process_time()
    found = diagnose(folder, ValidateDataParams())
    assert time.process_time() - started < 10
    assert len(found.images) == 10_008
    assert len(found.sample) == 400
    assert found.seconds() > 60
