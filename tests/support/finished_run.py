"""A pipeline that went through its steps on small pictures: every artifact from the dataset to the champion."""

import io
import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from components.evaluate.step import evaluate
from components.extract_features.step import extract_features
from components.register_model.step import register_model
from components.train_head.step import train_head
from graft.data.dataset import write_dataset
from graft.params.evaluate import EvaluateParams
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.register_model import RegisterModelParams
from graft.params.train_head import TrainHeadParams
from graft.runs.run_log import SilentLog
from tests.support.pictures import picture

CLASSES = ("ant", "bee", "cat")
NAME = "insects"
IMAGES, SIDE = 360, 32


@dataclass(frozen=True)
class FinishedRun:
    """The folders of the artifacts; fine-tuning was left out, so that the model is the head."""

    folder: Path

    @property
    def dataset(self) -> Path:
        """180 images for training, 90 for validation, 90 for test."""
        return self.folder / "dataset"

    @property
    def features(self) -> Path:
        return self.folder / "features"

    @property
    def model(self) -> Path:
        return self.folder / "head"

    @property
    def evaluation(self) -> Path:
        return self.folder / "evaluation"

    @property
    def store(self) -> str:
        """URI of the MLflow store whose only model, `insects`, has a champion."""
        return f"sqlite:///{self.folder}/mlflow.db"


def finish_run(folder: Path, empty_store: Path) -> None:
    """Run the steps; `empty_store` is an MLflow database with empty tables."""
    run, log = FinishedRun(folder), SilentLog()
    _write_dataset(run.dataset)
    shutil.copy(empty_store, folder / "mlflow.db")
    backbone = ExtractFeaturesParams(backbone="mobilenet_v3_small", weights="none", image_size=SIDE)
    quick = EvaluateParams(bootstrap=100, random_init=False, learning_curve=False, explain=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", run.store)
        patch.setenv("GRAFT_CACHE", "off")
        extract_features(run.dataset, run.features, backbone, log)
        train_head(run.features, run.model, TrainHeadParams(head="linear"), log)
        evaluate(run.dataset, run.features, run.model, run.model, run.evaluation, quick, log)
        params = RegisterModelParams(name=NAME, max_milliseconds=1e6)
        register_model(run.dataset, run.model, run.evaluation, folder / "version", params, log)


def _write_dataset(folder: Path) -> None:
    contents = [_png(picture(number % 3, number, SIDE)) for number in range(IMAGES)]
    table = pd.DataFrame({"path": [f"{number}.png" for number in range(IMAGES)]}).assign(
        id=[sha256(content).hexdigest() for content in contents],
        label=[CLASSES[number % 3] for number in range(IMAGES)],
        split=[("train", "train", "val", "test")[number // 3 % 4] for number in range(IMAGES)],
        group=[str(number) for number in range(IMAGES)],
        domain="",
        format="PNG",
        mode="RGB",
        width=SIDE,
        height=SIDE,
        bytes=[len(content) for content in contents],
    )
    write_dataset(folder, table, contents, CLASSES)


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()
