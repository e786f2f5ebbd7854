"""The scanned digits are written once, without their labels but for the check file."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.core.errors import DataError
from graft.demo.scanned_digits import CHECK, IMAGES, write_scanned_digits


def test_pictures_and_a_check_file(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    assert write_scanned_digits(folder)
    files = sorted((folder / IMAGES).iterdir())
    assert len(files) == 1797
    picture = Image.open(files[0])
    assert (picture.size, picture.mode, np.asarray(picture).max()) == ((10, 10), "L", 239)
    with (folder / CHECK).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 180
    assert {row["label"] for row in rows} == set("0123456789")
    assert all((folder / row["path"]).is_file() for row in rows)
    assert not write_scanned_digits(folder)


def test_a_file_in_the_way_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "digits").write_text("")
    with pytest.raises(DataError, match="is a file; choose a folder"):
        write_scanned_digits(tmp_path / "digits")
