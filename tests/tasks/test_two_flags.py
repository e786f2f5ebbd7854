"""A task defined outside Graft runs through all steps, from images to a packed model, without changes to Graft."""

import io
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from components.evaluate.step import evaluate
from components.extract_features.step import extract_features
from components.fine_tune.step import fine_tune
from components.register_model.step import register_model
from components.train_head.step import train_head
from graft.batch_prediction.folder_prediction import BatchModel, predict_folder
from graft.core.atomic import read_json
from graft.data.dataset import write_dataset
from graft.evaluation.held_out_table import read_predictions
from graft.evaluation.schema import read_evaluation
from graft.models.bundle import ModelBundle
from graft.params.evaluate import EvaluateParams
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.fine_tune import FineTuneParams
from graft.params.register_model import RegisterModelParams
from graft.params.train_head import TrainHeadParams
from graft.runs.run_log import SilentLog
from graft.serving.packaging import PackedPredictor
from graft.serving.registry import Registry
from tests.support.two_flags import TwoFlags

TASK = TwoFlags(name="look", labels=("red", "striped"))
LOG = SilentLog()


def look(number: int) -> bytes:
    """A noisy image, red or blue, with or without stripes."""
    red, striped = number % 2, number // 2 % 2
    pixels = np.random.default_rng(number).normal(0, 12, (32, 32, 3)) + np.array([60, 60, 60])
    pixels[:, :, 0 if red else 2] += 110
    if striped:
        pixels[::4] *= 0.2
    content = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(content, "PNG")
    return content.getvalue()


def flags(number: int) -> dict[str, str]:
    return {"red": ("no", "yes")[number % 2], "striped": ("no", "yes")[number // 2 % 2]}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts of every step up to the evaluation."""
    folder, images = tmp_path_factory.mktemp("flags"), range(160)
    table = pd.DataFrame(
        {
            "id": sha256(look(number)).hexdigest(),
            "path": f"{number}.png",
            "label": "",
            "split": ("train", "train", "train", "val", "test")[number // 4 % 5],
            "group": str(number),
            "domain": "",
            "format": "PNG",
            "mode": "RGB",
            "width": 32,
            "height": 32,
            "bytes": len(look(number)),
            **flags(number),
        }
        for number in images
    )
    write_dataset(folder / "dataset", table, map(look, images), TASK.labels, task=TASK)
    backbone = ExtractFeaturesParams(backbone="mobilenet_v3_small", weights="none", image_size=32)
    extract_features(folder / "dataset", folder / "features", backbone, LOG)
    head = TrainHeadParams(folds=3)
    train_head(folder / "features", folder / "head", head, LOG)
    tuning = FineTuneParams(strategy="all", epochs=1, folds=0, lr=1e-4)
    fine_tune(folder / "dataset", folder / "features", folder / "head", folder / "model", tuning, LOG)
    params = EvaluateParams(bootstrap=100, random_init=False)
    places = [folder / name for name in ("dataset", "features", "head", "model", "evaluation")]
    evaluate(*places, params, LOG)
    return folder


def test_every_artifact_carries_the_task(chain: Path) -> None:
    for file in ("dataset/dataset.json", "features/features.json", "head/bundle.json", "model/bundle.json"):
        assert read_json(chain / file)["task"] == {"kind": "two_flags", "name": "look", "labels": ["red", "striped"]}


def test_it_is_learnt_and_both_answers_are_given(chain: Path) -> None:
    found = read_evaluation(chain / "evaluation")
    assert found.task == TASK
    assert found.test["accuracy"].value > 0.9 > 0.4 > found.baseline["majority"]["accuracy"].value
    assert found.comparison["majority"].outcome == "better"
    model = ModelBundle.load(chain / "model")
    answers = model.predict([look(number) for number in range(1000, 1004)])
    assert list(answers)[:6] == ["path", "label", "confidence", "p:red", "p:striped", "error"]
    assert list(answers["label"]) == ["neither", "red", "striped", "red+striped"]
    assert list(read_predictions(chain / "evaluation")["label"][:2]) == ["neither", "red"]


def test_the_page_shows_what_this_task_has(chain: Path) -> None:
    page = (chain / "evaluation" / "report.html").read_text()
    assert 'id="numbers"' in page
    assert 'id="data"' in page
    assert 'id="confusion"' not in page
    assert "which of 2 labels apply to an image: “red”, “striped”" in (chain / "evaluation" / "card.md").read_text()


def test_a_folder_of_images_is_answered(chain: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    for number in range(4):
        (tmp_path / "new" / f"{number}.png").write_bytes(look(2000 + number))
    model = BatchModel.load(str(chain / "model"), tmp_path)
    result = predict_folder(model, tmp_path / "new", tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert list(table["label"]) == ["neither", "red", "striped", "red+striped"]
    assert list(table.columns) == ["path", "label", "confidence", "p:red", "p:striped", "error"]
    assert result.seen.answers.tolist() == [TASK.answer_names.index(label) for label in table["label"]]


def test_it_is_packed_with_its_code_and_answers_as_it_was_evaluated(chain: Path, store: Path, tmp_path: Path) -> None:
    params = RegisterModelParams(name="flags")
    register_model(chain / "dataset", chain / "model", chain / "evaluation", tmp_path / "version", params, LOG)
    registry = Registry.open("flags")
    champion = registry.champion()
    assert champion is not None
    with registry.downloaded(champion) as folder:
        assert list(folder.rglob("tasks/two_flags.py"))
        served = PackedPredictor(folder).predict([look(2), look(3)])
    assert list(served["label"]) == ["striped", "red+striped"]
    assert set(served["probabilities"][0]) == {"red", "striped"}
