"""make forget: from a list of images to a model that never saw them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from graft.continual.state import ContinualState
from graft.data.dataset import ImageDataset
from graft.heads.class_moments import ClassMoments
from graft.models.bundle import ModelBundle
from graft.serving.packaging import EVIDENCE
from graft.serving.registry import Registry
from graft.serving.training_images import TrainingImages
from pipelines.updating import app
from tests.support.finished_run import NAME, FinishedRun


def run(finished: FinishedRun, folder: Path, text: str, model: str = "") -> tuple[str, str]:
    """Write all images of the run and the list, and return what the command prints and the error it ends with."""
    images = ImageDataset.read(finished.dataset)
    (folder / "images").mkdir(exist_ok=True)
    for row in range(60):
        (folder / "images" / f"{row}.png").write_bytes(images.image(row))
    (folder / "ids.csv").write_text(text)
    options = {
        "file": folder / "ids.csv",
        "data": folder / "images",
        "model": model or finished.model,
        "out": folder / "out",
    }
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
    assert json.loads((tmp_path / "out" / "proof.json").read_text())["error"] < 1e-6


def test_the_model_is_a_challenger_that_can_still_adapt_and_its_proof_is_packed(
    finished_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Class moments without the images equal those of a model that never saw them; the sample has lost them."""
    shutil.copy(finished_run.folder / "mlflow.db", tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    images = ImageDataset.read(finished_run.dataset)
    gone = images.table.iloc[:24]
    told, error = run(finished_run, tmp_path, "\n".join(["id", *gone["id"]]) + "\n", f"models:/{NAME}@champion")
    assert error == ""
    assert f"challenger  models:/{NAME}/2" in told
    registry = Registry.open(NAME)
    version, champion = registry.version(2), registry.champion()
    assert version.aliases == ("challenger",)
    assert champion is not None
    assert champion.number == 1
    assert (version.tags["verdict"], version.tags["forgot.from"]) == ("forgot", f"models:/{NAME}/1")
    assert "added again they give the memory of before to" in version.tags["reason.1"]
    with registry.downloaded(version) as packed:
        assert json.loads((packed / "artifacts" / EVIDENCE / "proof.json").read_text())["examined"] > 0
        seen = TrainingImages.read(packed / "artifacts" / EVIDENCE)
        assert not any(image.encode() in (packed / "input_example.json").read_bytes() for image in gone["id"])
    assert seen is not None
    assert not seen.contain(gone.assign(group=gone["id"])).any()

    before, after = ModelBundle.load(finished_run.model), ModelBundle.load(tmp_path / "out" / "model")
    rows = np.setdiff1d(images.indices("train"), np.arange(24))
    _, features = before.logits_and_features(images.image(int(row)) for row in rows)
    never = ClassMoments.of(features, images.targets()[rows], 3)
    assert before.moments is not None
    assert after.moments is not None
    np.testing.assert_array_equal(after.moments.counts, never.counts)
    np.testing.assert_allclose(after.moments.means, never.means, atol=1e-4)
    np.testing.assert_allclose(after.moments.squares, never.squares, rtol=1e-3, atol=1e-3)
    assert before.sample is not None
    assert after.sample is not None
    trained = int((gone["split"] == "train").sum())
    assert len(after.sample.features) == len(before.sample.features) - trained


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
    assert not (tmp_path / "out" / "model").exists()
