import csv
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from graft.batch_prediction import folder_prediction, monitoring
from graft.batch_prediction.drift_page import UNKNOWN_REFERENCE, TaskDrift, render
from graft.batch_prediction.folder_prediction import BatchModel, image_files, predict_folder, reference_predictions
from graft.core.errors import DataError, ModelError
from graft.data.dataset import ImageDataset
from graft.models.bundle import ModelBundle
from graft.models.fit_abstention import with_abstention
from graft.runs.run_log import SilentLog
from graft.serving.packaging import EVIDENCE
from graft.stats.drift import detect_drift
from tests.support.tasks import of_labels
from tests.support.tiny import CLASSES, bundle_of, evaluated, small_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    return small_dataset(tmp_path_factory.mktemp("data") / "dataset")


@pytest.fixture(scope="module")
def model(dataset: ImageDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    bundle = with_abstention(bundle_of(dataset), dataset)
    bundle.save(folder / "model")
    evaluated(dataset, bundle, folder / EVIDENCE)
    return folder / "model"


@pytest.fixture
def folder(dataset: ImageDataset, tmp_path: Path) -> Path:
    """The test images as files, and files that are not images."""
    place = tmp_path / "new"
    for number, row in enumerate(dataset.indices("test")):
        file = place / f"day {number % 2}" / f"{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(dataset.image(int(row)))
    (place / "day 0" / "broken.jpg").write_bytes(b"no picture")
    (place / "notes.txt").write_text("not an image")
    (place / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(12))
    (place / "day 0" / "00.png").rename(place / "day 0" / "no extension")
    (place / ".hidden.png").write_bytes(b"")
    return place


def loaded(model: Path, tmp_path: Path) -> BatchModel:
    return BatchModel.load(str(model), tmp_path / "work")


def test_every_image_gets_a_row_that_agrees_with_predict(model: Path, folder: Path, tmp_path: Path) -> None:
    result = predict_folder(loaded(model, tmp_path), folder, tmp_path / "out")
    assert (result.images, result.errors, result.reused) == (63, 3, 0)
    table = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pandas()
    assert list(table["path"]) == image_files(folder)
    broken = table[table["path"] == "day 0/broken.jpg"].iloc[0]
    assert pd.isna(broken["label"])
    assert "not an image" in broken["error"]
    reasons = dict(zip(table["path"], table["error"], strict=True))
    assert "HEIF" in reasons["phone.heic"]
    assert "not an image" in reasons["notes.txt"]
    good = table[table["label"].notna()]
    assert "day 0/no extension" in set(good["path"])
    expected = ModelBundle.load(model).predict([folder / path for path in good["path"]])
    assert list(good["label"]) == list(expected["label"])
    for name in CLASSES:
        assert good[f"p:{name}"].to_numpy() == pytest.approx(expected[name].to_numpy(), abs=1e-5)
    assert [tuple(labels) for labels in good["set"]] == list(expected["set"])
    assert good["ood"].to_numpy() == pytest.approx(expected["ood"].to_numpy(), abs=1e-4)
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == list(table["path"])
    assert rows[0]["set"] == "|".join(table["set"][0])


def test_an_interrupted_run_resumes(model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_prediction, "PART_IMAGES", 16)
    used, out = loaded(model, tmp_path), tmp_path / "out"
    seen = 0
    pixels = folder_prediction.read_bytes

    def stops(path: Path) -> bytes:
        nonlocal seen
        seen += 1
        if seen > 40:
            raise KeyboardInterrupt
        return pixels(path)

    monkeypatch.setattr(folder_prediction, "read_bytes", stops)
    with pytest.raises(KeyboardInterrupt):
        predict_folder(used, folder, out)
    assert not (out / "predictions.parquet").exists()
    monkeypatch.setattr(folder_prediction, "read_bytes", pixels)
    assert predict_folder(used, folder, out).reused == 32
    assert predict_folder(used, folder, out).reused == 63
    changed = folder / image_files(folder)[0]
    changed.write_bytes(changed.read_bytes() + b"\0")
    assert predict_folder(used, folder, out).reused == 47
    assert len(list((out / ".parts").glob("*.parquet"))) == len(list((out / ".parts").glob("*.npy"))) == 4


def test_the_page_and_the_numbers_report_drift(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = loaded(model, tmp_path)
    reference = reference_predictions(model.parent / EVIDENCE, of_labels(*CLASSES))
    assert reference is not None
    assert len(reference.answers) == 72
    result = predict_folder(used, folder, tmp_path / "out")
    # Evidence that is older than scores in it: answers and confidence are what can be compared.
    usual = detect_drift(reference, replace(result.seen, ood_scores=None), 3)
    assert not usual.drifted
    page = render("<b>models:/x", result, [TaskDrift("label", CLASSES, result.seen, reference, usual)])
    assert "No sign that these images differ" in page
    assert "&lt;b&gt;models:/x" in page
    assert page.count("<svg") >= 3
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")

    found = monitoring.predict_and_compare(str(model), folder, tmp_path / "out", SilentLog())
    assert found["reused"] == 63
    assert found["images"] == 63
    assert found["errors"] == 3
    assert json.loads((tmp_path / "out" / "drift.json").read_text())["model"] == str(model)
    assert UNKNOWN_REFERENCE in (tmp_path / "out" / "drift.html").read_text()


def test_bad_input_is_one_line(model: Path, tmp_path: Path) -> None:
    used = loaded(model, tmp_path)
    with pytest.raises(DataError, match="no such folder of images"):
        predict_folder(used, tmp_path / "none", tmp_path / "out")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no image files"):
        predict_folder(used, empty, tmp_path / "out")
    (empty / "a.png").write_bytes(b"x")
    with pytest.raises(DataError, match="none of 1 image files can be read"):
        monitoring.predict_and_compare(str(model), empty, tmp_path / "out", SilentLog())
    with pytest.raises(ModelError, match="no model here"):
        BatchModel.load(str(empty), tmp_path / "work")


def test_a_bundle_without_trust_leaves_its_columns_out(dataset: ImageDataset, folder: Path, tmp_path: Path) -> None:
    bundle_of(dataset).save(tmp_path / "plain")
    result = predict_folder(loaded(tmp_path / "plain", tmp_path), folder, tmp_path / "out")
    assert result.abstained is None
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert list(table.columns) == ["path", "label", "confidence", *(f"p:{name}" for name in CLASSES), "error"]
