"""`graft doctor`: one screen about a folder, in seconds."""

import io
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graft.params.params import Params
from graft.params.validate_data import ValidateDataParams
from graft.quality.doctor import diagnose
from pipelines.console.looking import doctor
from pipelines.local.look import look
from tests.support.encoded import png
from tests.support.pictures import MakeImages, picture


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


def test_a_manifest_and_a_packed_set_are_looked_at_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"path": f"{number}.png", "species": "ab"[number % 2]} for number in range(8)]
    for number, row in enumerate(rows):
        picture(number % 2, number).save(tmp_path / row["path"])
    (tmp_path / "list.csv").write_text("path,species\n" + "".join(f"{r['path']},{r['species']}\n" for r in rows))
    asked = "validate_data.labels=[species]"
    assert "8 in 2 classes: a 4 to b 4" in screen(capsys, tmp_path / "list.csv", asked)
    with pytest.raises(SystemExit, match=r"doctor: .*no column 'label'"):
        screen(capsys, tmp_path / "list.csv")
    images = [{"bytes": (tmp_path / row["path"]).read_bytes(), "path": row["path"]} for row in rows]
    pq.write_table(pa.table({"image": images, "label": [r["species"] for r in rows]}), tmp_path / "set.parquet")
    assert "8 in 2 classes: a 4 to b 4" in screen(capsys, tmp_path / "set.parquet")


def test_a_run_looks_at_them_before_it_starts(tmp_path: Path) -> None:
    image = io.BytesIO()
    picture(0, 0).save(image, "PNG")
    rows = {"image": [{"bytes": image.getvalue(), "path": ""}] * 2, "label": ["a", "b"]}
    (tmp_path / "packed").mkdir()
    pq.write_table(pa.table(rows), tmp_path / "packed/train-00000-of-00001.parquet")
    (tmp_path / "a.csv").write_text("path,species,colour\n1.png,ant,red\n2.png,bee,\n")
    named = ["validate_data.labels=[species,colour]"]
    for data, images, more in (
        ("packed", None, []),
        ("packed/train-00000-of-00001.parquet", None, []),
        ("a.csv", 2, named),
    ):
        ahead = look(Params.load(None, [f"get_data.source={tmp_path / data}", *more]), tmp_path / "out")
        assert ahead.images == images
        assert dict(ahead.lines())["data"].startswith(str(tmp_path / data))


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
