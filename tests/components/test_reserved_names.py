"""Classes and columns with the names that Graft uses itself go through a whole run, from a manifest to the answers."""

import csv
from pathlib import Path

import pandas as pd
import pytest

from graft.evaluation.schema import read_evaluation
from graft.models.bundle import ModelBundle
from tests.support.pictures import picture
from tests.support.whole_run import train

CLASSES = ("confidence", "error", "label", "p:label", "path", "set", "split")
COLUMNS = ("id", "width", "format", "confidence", "predicted", "image", "group_size", "p:label", "fault", "abstain")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reserved")
    rows = []
    for place, label in enumerate(CLASSES):
        for number in range(12):
            path = f"{label.replace(':', '_')}/{number}.png"
            (folder / "own" / path).parent.mkdir(parents=True, exist_ok=True)
            picture(place, 50 * place + number).save(folder / "own" / path)
            rows.append([path, label, *(f"{column} {number % 3}" for column in COLUMNS)])
    with (folder / "own/manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", *COLUMNS], *rows])
    train(folder / "own/manifest.csv", folder)
    return folder


def test_the_report_knows_every_class_and_slices_by_every_column(run: Path) -> None:
    found = read_evaluation(run / "evaluation")
    assert found.classes == CLASSES
    sliced = {one.column.removeprefix("manifest:") for one in found.slices}
    assert {*COLUMNS} <= sliced


def test_the_answers_hold_every_class_under_its_own_name(run: Path) -> None:
    model = ModelBundle.load(run / "model")
    answers = model.predict(sorted((run / "own").glob("*/*.png"))[:6])
    assert isinstance(answers, pd.DataFrame)
    assert [name for name in answers.columns if name.startswith("p:")][: len(CLASSES)] == [f"p:{c}" for c in CLASSES]
    shares = answers[[f"p:{label}" for label in CLASSES]]
    assert shares.sum(axis=1).to_numpy() == pytest.approx(1.0)
    assert set(answers["label"]) <= {*CLASSES}
    assert answers["confidence"].to_numpy() == pytest.approx(shares.max(axis=1).to_numpy())


def test_the_artifact_opens_with_them_too(run: Path) -> None:
    datasets = pytest.importorskip("datasets")
    train = datasets.load_from_disk(run / "dataset")["train"]
    assert train.features["label"].names == list(CLASSES)
    assert {"manifest:width", "manifest:id", "predicted", "confidence"} <= {*train.column_names}
