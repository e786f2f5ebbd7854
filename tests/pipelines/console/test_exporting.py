"""`graft export --int8 --hub`: an 8-bit model whose cost is true, and a repository for the Hub that can be loaded."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from typer.testing import CliRunner

import graft
from components.train_head.step import train_head
from graft.core.checksums import check_folder
from graft.data.dataset import ImageDataset
from graft.models.int8 import _pixels, quantise
from graft.params.train_head import TrainHeadParams
from graft.runs.run_log import SilentLog
from graft.serving.loading import fetch_model
from pipelines.cli import app
from tests.support.finished_run import CLASSES, NAME, FinishedRun


@pytest.fixture(scope="module")
def model(finished_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head on all groups of the backbone."""
    folder = tmp_path_factory.mktemp("deep") / "model"
    train_head(
        finished_run.folder / "features", folder, TrainHeadParams(head="linear", reuse_depth="last"), SilentLog()
    )
    return folder


@pytest.fixture(scope="module")
def exported(model: Path, finished_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("export")
    options = ["--model", str(model), "--dataset", str(finished_run.dataset), "--out", str(out)]
    done = CliRunner().invoke(app, ["export", *options, "--int8"])
    assert done.exit_code == 0, done.output
    return out, done.output


def judged(file: Path, model: Path, dataset: Path) -> tuple[float, float]:
    """Return the percentage of test images that an ONNX file answers right, and its log loss there."""
    data, bundle = ImageDataset.read(dataset), graft.load(model)
    rows = data.indices("test")
    pixels = np.stack([bundle.transform.pixels(data.image(int(row))).numpy() for row in rows])
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["labels"]) == list(CLASSES)
    (logits,) = session.run(["logits"], {"pixels": pixels})
    loss = bundle.task.log_losses(bundle.probabilities(logits), data.targets()[rows])
    return 100 * float((logits.argmax(1) == data.targets()[rows]).mean()), float(loss.mean())


def test_eight_bits_are_smaller_and_their_cost_is_what_the_file_gives(
    exported: tuple[Path, str], model: Path, finished_run: FinishedRun
) -> None:
    out, told = exported
    small, exact = out / "model.int8.onnx", out / "model.onnx"
    assert small.stat().st_size < 0.4 * exact.stat().st_size
    assert {node.op_type for node in onnx.load(str(small)).graph.node} > {"QuantizeLinear", "DequantizeLinear"}
    (now, loss), (before, exact_loss) = (judged(file, model, finished_run.dataset) for file in (small, exact))
    assert f"{now:.1f} % of 90 test images right for {before:.1f} % in float32" in told
    assert f"log loss {loss - exact_loss:+.3f}" in told


def test_without_fitting_the_output_layer_again_it_would_cost_more(
    exported: tuple[Path, str], model: Path, finished_run: FinishedRun, tmp_path: Path
) -> None:
    data, bundle = ImageDataset.read(finished_run.dataset), graft.load(model)
    quantise(exported[0] / "model.onnx", tmp_path / "as_it_is.onnx", _pixels(bundle, data, data.indices("train")))
    losses = [
        judged(file, model, finished_run.dataset)[1]
        for file in (exported[0] / "model.int8.onnx", tmp_path / "as_it_is.onnx")
    ]
    assert losses[0] < losses[1]


def test_the_hub_folder_is_a_model_with_its_card(
    finished_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", finished_run.store)
    options = ["--model", f"models:/{NAME}@champion", "--out", str(tmp_path / "out"), "--hub"]
    done = CliRunner().invoke(app, ["export", *options])
    assert done.exit_code == 0, done.output
    folder = tmp_path / "out" / "hub"
    check_folder(folder, every_file=True)
    _, front, card = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    told = yaml.safe_load(front)
    found = fetch_model(f"models:/{NAME}@champion", tmp_path / "fetched")
    assert found.evidence is not None
    scores = json.loads((found.evidence / "scores.json").read_text(encoding="utf-8"))["test"]
    (model,) = told["model-index"]
    assert model["name"] == NAME
    metrics = {one["type"]: one["value"] for one in model["results"][0]["metrics"]}
    assert metrics["accuracy"] == pytest.approx(scores["accuracy"]["value"], abs=1e-4)
    assert told["pipeline_tag"] == "image-classification"
    assert "## Intended use" in card
    assert "graft.load(snapshot_download(" in card
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert list(config["id2label"].values()) == list(CLASSES)
    shutil.copytree(folder, tmp_path / "downloaded")
    image = ImageDataset.read(finished_run.dataset).image(0)
    ours, theirs = (graft.load(place).predict(image) for place in (finished_run.model, tmp_path / "downloaded"))
    assert ours.loc[0, "label"] == theirs.loc[0, "label"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--int8"], r"no run in this folder: --int8 needs the images"),
        (["--int8", "--dataset", "nowhere"], r"nowhere: --int8 needs the images"),
    ],
)
def test_eight_bits_need_the_images(
    options: list[str], message: str, finished_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["export", "--model", str(finished_run.model), "--out", "out", *options])
    assert done.exit_code
    assert re.search(message, str(done.exception))
    assert not Path("out").exists()
