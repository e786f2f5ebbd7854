"""make forget: from a list of images to a model that never saw them."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from graft.continual.state import ContinualState
from graft.data.dataset import ImageDataset
from graft.models.bundle import ModelBundle
from pipelines.updating import app
from tests.support.finished_run import FinishedRun


def run(finished: FinishedRun, folder: Path, text: str) -> tuple[str, str]:
    """Write all images of the run and the list, and return what the command prints and the error it ends with."""
    images = ImageDataset.read(finished.dataset)
    (folder / "images").mkdir(exist_ok=True)
    for row in range(60):
        (folder / "images" / f"{row}.png").write_bytes(images.image(row))
    (folder / "ids.csv").write_text(text)
    options = {"file": folder / "ids.csv", "data": folder / "images", "model": finished.model, "out": folder / "out"}
    done = CliRunner().invoke(
        app, ["forget", *(text for name, value in options.items() for text in (f"--{name}", str(value)))]
    )
    return done.output, str(done.exception or "")


@pytest.mark.parametrize("by", ["id", "path"])
def test_images_of_a_list_are_forgotten(finished_run: FinishedRun, tmp_path: Path, by: str) -> None:
    table = ImageDataset.read(finished_run.dataset).table.iloc[:24]
    names = table["id"] if by == "id" else table["path"]
    told, error = run(finished_run, tmp_path, "\n".join([by, *names]) + "\n")
    assert error == ""
    learnt, held_out = (table["split"] != "test").sum(), (table["split"] != "train").sum()
    assert f"{learnt} images taken out of the memory, {held_out} out of the exam" in told
    before, after = ContinualState.load(finished_run.model), ContinualState.load(tmp_path / "out" / "model")
    assert not after.memory.knows(table["id"].tolist()).any()
    assert after.memory.statistics.images == before.memory.statistics.images - learnt
    assert ModelBundle.load(tmp_path / "out" / "model").sample is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name\na\n", "no column id or path"),
        ("path\nmissing.png\n", "1 of 1 images are not in"),
        ("id\n" + 64 * "0" + "\n", "1 of 1 images are not in"),
    ],
)
def test_a_bad_list_is_one_line(finished_run: FinishedRun, tmp_path: Path, text: str, line: str) -> None:
    _, error = run(finished_run, tmp_path, text)
    assert line in error
    assert not (tmp_path / "out").exists()
