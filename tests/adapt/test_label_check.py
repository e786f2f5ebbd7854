"""A check file that does not fit is one clear line."""

from pathlib import Path

import pytest

from graft.adapt.label_check import LabelledCheck
from graft.core.errors import DataError
from tests.support.pictures import picture

LABELS = ("ant", "bee")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "night").mkdir()
    for number in range(2):
        picture(number, number).save(tmp_path / "night" / f"{number}.png")
    return tmp_path / "night"


def test_paths_are_relative_to_the_file_or_the_folder(folder: Path) -> None:
    file = folder.parent / "check.csv"
    file.write_text("path,label,note\nnight/0.png,bee,x\n1.png,ant,\n")
    found = LabelledCheck.read(file, folder, LABELS)
    assert found.targets.tolist() == [1, 0]
    assert found.files == (folder.parent / "night/0.png", folder / "1.png")
    assert len(set(found.ids)) == len(found.contents()) == 2


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("path,class\n0.png,ant\n", "no column 'label'; columns: path, class"),
        ("", "no column 'path'; columns: none"),
        ("path,label\n", "no labelled images"),
        ("path,label\n0.png,aunt\n", "line 2: the model knows no label 'aunt'; did you mean 'ant'?"),
        ("path,label\n0.png,ant\n1.png,\n", "line 3: the model knows no label ''; labels: ant, bee"),
        ("path,label\n9.png,ant\n", "line 2: no image '9.png' beside the file or in"),
    ],
)
def test_a_bad_file_is_one_clear_line(folder: Path, content: str, line: str) -> None:
    (folder / "check.csv").write_text(content)
    with pytest.raises(DataError) as error:
        LabelledCheck.read(folder / "check.csv", folder, LABELS)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_one_clear_line(folder: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: cannot be read"):
        LabelledCheck.read(folder / "none.csv", folder, LABELS)
