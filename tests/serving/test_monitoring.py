"""Drift as a user meets it: a registered model, a folder of images, and what the command says of them."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from components.evaluate.step import evaluate
from components.extract_features.step import extract_features
from components.register_model.step import register_model
from components.train_head.step import train_head
from graft.data.dataset import write_dataset
from graft.evaluation.schema import read_predictions
from graft.runs.params import EvaluateParams, ExtractFeaturesParams, RegisterModelParams, TrainHeadParams
from graft.runs.run_log import SilentLog
from graft.serving.monitoring import predict_and_compare
from tests.support.pictures import picture

LOG = SilentLog()
CLASSES = ("ant", "bee", "cat")


def png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> tuple[str, Path]:
    """A store with a champion that went through the steps, and what its evaluation left."""
    folder, total = tmp_path_factory.mktemp("registered"), 360
    contents = [png(picture(number % 3, number, 32)) for number in range(total)]
    table = pd.DataFrame(
        {
            "id": [f"{number:064d}" for number in range(total)],
            "path": [f"{number}.png" for number in range(total)],
            "label": [CLASSES[number % 3] for number in range(total)],
            "split": [("train", "train", "val", "test")[number // 3 % 4] for number in range(total)],
            "group": [str(number) for number in range(total)],
            "domain": "",
            "format": "PNG",
            "mode": "RGB",
            "width": 32,
            "height": 32,
            "bytes": [len(content) for content in contents],
        }
    )
    database = folder / "mlflow.db"
    database.write_bytes(empty_store.read_bytes())
    uri = f"sqlite:///{database}"
    write_dataset(folder / "dataset", table, contents, CLASSES)
    backbone = ExtractFeaturesParams(backbone="mobilenet_v3_small", weights="none", image_size=32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        extract_features(folder / "dataset", folder / "features", backbone, LOG)
        train_head(folder / "features", folder / "head", TrainHeadParams(head="linear"), LOG)
        places = [folder / name for name in ("dataset", "features", "head", "head", "evaluation")]
        evaluate(*places, EvaluateParams(bootstrap=100, random_init=False, learning_curve=False, explain=False), LOG)
        params = RegisterModelParams(name="insects", max_milliseconds=1e6)
        register_model(folder / "dataset", folder / "head", folder / "evaluation", folder / "version", params, LOG)
    return uri, folder / "evaluation"


def compared(uri: str, images: list[Image.Image], folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (folder / "images").mkdir()
    for number, image in enumerate(images):
        (folder / "images" / f"{number}.png").write_bytes(png(image))
    return predict_and_compare("models:/insects@champion", folder / "images", folder / "out", LOG)


def test_the_evidence_holds_scores_of_held_out_images(registered: tuple[str, Path]) -> None:
    table = read_predictions(registered[1])
    assert table["ood"].notna().all()
    assert (table.loc[table["split"] == "val", "ood"] > 1).mean() <= 0.05


def test_images_like_the_held_out_ones_have_not_drifted(
    registered: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compared(registered[0], [picture(n % 3, 5000 + n, 32) for n in range(120)], tmp_path, monkeypatch)
    assert not found["drifted"], found
    assert found["foreign"] < 0.1
    assert found["drift.features"] < 0.2


@pytest.mark.parametrize("kind", ["noise", "another domain"])
def test_noise_and_another_domain_have(
    kind: str, registered: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    images = {
        "noise": [Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(60)],
        "another domain": [ImageOps.invert(picture(n % 3, 5000 + n, 32)) for n in range(60)],
    }[kind]
    found = compared(registered[0], images, tmp_path, monkeypatch)
    assert found["drifted"], found
    assert found["drift.features"] > 0.5
    assert found["foreign"] > 0.2
    assert "features" in str(found["headline"])
