"""`graft validate`: the verdict on the terminal, the page in the folder, and an exit code."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.console.validating import validate

MakeImages = Callable[..., Path]


def test_a_failing_verdict_is_told_and_exits_with_one(
    image_folder: MakeImages, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = image_folder({"cat": 8, "dog": 8})
    (folder / "cat/bad.jpg").write_bytes(b"")
    with pytest.raises(SystemExit) as ended:
        validate(str(folder), tmp_path / "out", file=root / "params.yaml")
    assert ended.value.code == 1
    told = capsys.readouterr().out
    assert "16 images of 2 classes (train 7, val 4, test 5)" in told
    assert "empty_file: 1 bad image: cat/bad.jpg (the file is empty (0 bytes))" in told
    assert (tmp_path / "out/data.html").is_file()
    validate(str(folder), tmp_path / "out", "validate_data.on_bad_image=drop", root / "params.yaml")
    assert "verdict: warn" in capsys.readouterr().out


def test_a_wrong_parameter_is_one_line(tmp_path: Path, root: Path) -> None:
    with pytest.raises(SystemExit, match=r"validate: .*on_bad_imag"):
        validate(str(tmp_path), tmp_path / "out", "validate_data.on_bad_imag=drop", root / "params.yaml")
