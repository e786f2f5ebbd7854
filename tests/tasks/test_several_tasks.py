"""Two questions of the same images through all steps: one pass through the backbone, and answers to both."""

import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from starlette.testclient import TestClient

from components.evaluate.step import evaluate
from components.extract_features.step import extract_features
from components.fine_tune.step import fine_tune
from components.register_model.step import register_model
from components.review_features.step import review_features
from components.train_head.step import train_head
from components.validate_data.step import validate_data
from graft.backbones.weights import WeightsSpec
from graft.batch_prediction.folder_prediction import BatchModel, predict_folder
from graft.batch_prediction.monitoring import predict_and_compare
from graft.core.atomic import read_json
from graft.core.errors import DataError, ParamsError
from graft.data.dataset import ImageDataset
from graft.data.relabel import relabel
from graft.evaluation import random_init_baseline
from graft.evaluation.random_init_baseline import UntrainedBackbone
from graft.evaluation.schema import read_evaluation, task_evaluation
from graft.models.bundle import ModelBundle
from graft.params.evaluate import EvaluateParams
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.fine_tune import FineTuneParams
from graft.params.register_model import RegisterModelParams
from graft.params.review_features import ReviewFeaturesParams
from graft.params.train_head import TrainHeadParams
from graft.params.validate_data import ValidateDataParams
from graft.runs.run_log import SilentLog
from graft.serving.packaging import PackedPredictor
from graft.serving.registry import Registry
from graft.tasks.columns import task_columns
from graft.web.app import make_app
from graft.web.served_model import ServedModel
from graft.web.settings import Settings
from pipelines.console.exporting import export
from tests.support.finished_run import FinishedRun
from tests.support.two_tasks import COLOURS, PATTERNS, write_images

LOG = SilentLog()
BACKBONE = ExtractFeaturesParams(backbone="mobilenet_v3_small", weights="none", image_size=32)
HEAD = TrainHeadParams(folds=3, head="linear", reuse_depth="features.1")
LABELS = ("colour", "pattern")


class Chain(NamedTuple):
    """The artifacts of every step up to the evaluation, and what the steps returned."""

    folder: Path
    metrics: dict[str, Any]


def learn(folder: Path, labels: Any = LABELS, **made: Any) -> dict[str, Any]:
    """Validate, extract and train."""
    write_images(folder / "raw", **made)
    params = ValidateDataParams(labels=labels)
    found: dict[str, Any] = {"validate_data": validate_data(*_in(folder, "raw", "dataset", "page"), params, LOG)}
    extract_features(*_in(folder, "dataset", "features"), BACKBONE, LOG)
    found["train_head"] = train_head(*_in(folder, "features", "head"), HEAD, LOG)
    return found


def _in(folder: Path, *names: str) -> list[Path]:
    return [folder / name for name in names]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    folder = tmp_path_factory.mktemp("tasks")
    found = learn(folder, unlabelled=5)
    tuning = FineTuneParams(enabled=False, refit=True)
    found["fine_tune"] = fine_tune(*_in(folder, "dataset", "features", "head", "model"), tuning, LOG)
    places = _in(folder, "dataset", "features", "head", "model", "evaluation")
    quick = EvaluateParams(bootstrap=100, random_init=False)
    found["evaluate"] = evaluate(*places, quick, LOG)
    return Chain(folder, found)


def test_the_dataset_knows_both_tasks_and_which_rows_answer_them(chain: Chain) -> None:
    images = ImageDataset.read(chain.folder / "dataset")
    assert [(task.name, task.labels) for task in images.tasks] == [("colour", COLOURS), ("pattern", PATTERNS)]
    pattern = images.of_task(images.tasks[1])
    assert len(images.labelled("train")) == 72
    assert len(pattern.labelled("train")) == 56
    counts = chain.metrics["validate_data"]["tasks"]["pattern"]
    assert sum(counts["train"].values()) == 56


def test_both_are_learnt_and_measured(chain: Chain) -> None:
    found = chain.metrics["evaluate"]
    assert set(found["tasks"]) == set(LABELS)
    assert found["test"] == found["tasks"]["colour"]["test"]
    assert all(one["test"]["accuracy"]["value"] > 0.9 for one in found["tasks"].values())
    first, second = (read_evaluation(place) for place in _evaluations(chain.folder))
    assert first.together is not None
    assert first.together.images == second.images["test"] < first.images["test"]
    assert 0.8 < first.together.all_right.value <= 1
    assert {part.column for part in second.slices} == {"format", "shorter side", "task colour"} & {
        part.column for part in second.slices
    }


def _evaluations(folder: Path) -> list[Path]:
    return [folder / "evaluation", task_evaluation(folder / "evaluation", "pattern")]


def test_a_task_is_learnt_as_if_it_were_alone(chain: Chain, tmp_path: Path) -> None:
    """The same groups, the same images: the same head, to the bit."""
    alone = learn(tmp_path, ("colour",), unlabelled=5)
    together = ModelBundle.load(chain.folder / "head")
    single = ModelBundle.load(tmp_path / "head")
    for name, tensor in single.classifier.head.state_dict().items():
        assert torch.equal(tensor, together.classifier.head.state_dict()[name])
    assert together.spec.temperature == single.spec.temperature
    assert chain.metrics["train_head"]["tasks"]["colour"] == alone["train_head"]


def test_empty_cells_of_one_task_leave_the_other_alone(chain: Chain, tmp_path: Path) -> None:
    whole = learn(tmp_path)
    assert whole["train_head"]["tasks"]["colour"] == chain.metrics["train_head"]["tasks"]["colour"]
    assert whole["train_head"]["tasks"]["pattern"] != chain.metrics["train_head"]["tasks"]["pattern"]


def test_one_pass_answers_what_each_head_would(chain: Chain) -> None:
    model = ModelBundle.load(chain.folder / "model")
    files = sorted((chain.folder / "raw").glob("*.png"))[:20]
    table = model.predict(files)
    assert list(table)[:4] == ["path", "colour.label", "colour.confidence", "colour.set"]
    assert list(table)[-3:] == ["pattern.plain", "pattern.striped", "error"]
    contents = [file.read_bytes() for file in files]
    for one in model.by_task:
        expected = one.probabilities(one.logits(contents))
        found = table[[f"{one.task.name}.{label}" for label in one.task.labels]].to_numpy()
        assert np.abs(found - expected).max() < 1e-6


def test_a_folder_and_a_server_give_the_same(chain: Chain, store: Path, tmp_path: Path) -> None:
    folder = chain.folder
    params = RegisterModelParams(name="two", max_milliseconds=1e6)
    found = register_model(*_in(folder, "dataset", "model", "evaluation"), tmp_path / "version", params, LOG)
    assert found["promoted"]
    registry = Registry.open("two")
    champion = registry.champion()
    assert champion is not None
    assert champion.tags["tasks.pattern.test.accuracy"]
    files = sorted((folder / "raw").glob("*.png"))[:5]
    with registry.downloaded(champion) as packed:
        served = PackedPredictor(packed).predict([file.read_bytes() for file in files])
        check_web(ServedModel.load(packed, "two", 1), files[0].read_bytes(), served.iloc[0])
    asked = ModelBundle.load(folder / "model").predict(files)
    for name in ("colour.label", "pattern.label"):
        assert list(served[name]) == list(asked[name])
    assert served["pattern.striped"].to_numpy() == pytest.approx(asked["pattern.striped"].to_numpy(), abs=1e-5)
    model = BatchModel.load("models:/two@champion", tmp_path / "work")
    result = predict_folder(model, folder / "raw", tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert set(table["pattern.label"].dropna()) == set(PATTERNS)
    assert len(result.further_seen[0].answers) == 120
    numbers = predict_and_compare("models:/two@champion", folder / "raw", tmp_path / "out", LOG)
    assert "tasks.pattern.drift.labels" in numbers
    page = (tmp_path / "out" / "drift.html").read_text()
    assert "Before and now: colour" in page
    assert "Before and now: pattern" in page
    assert set(read_json(tmp_path / "out" / "drift.json")["tasks"]) == set(LABELS)
    again = register_model(*_in(folder, "dataset", "model", "evaluation"), tmp_path / "again", params, LOG)
    assert again["promoted"]


def check_web(model: ServedModel, image: bytes, served: "pd.Series[Any]") -> None:
    """The server with a page answers and explains both tasks."""
    asked = TestClient(make_app(model, Settings()), base_url="http://127.0.0.1:5001")
    assert asked.get("/model").json()["tasks"] == {"colour": list(COLOURS), "pattern": list(PATTERNS)}
    (answer,) = asked.post("/predict", files={"image": image}).json()["predictions"]
    for task in LABELS:
        assert answer[f"{task}.label"] == served[f"{task}.label"]
        explained = asked.post(f"/explain?task={task}", files={"image": image}).json()
        assert explained["label"] == answer[f"{task}.label"]
        assert explained["heat_map"].startswith("data:image/jpeg")
    assert asked.post("/explain", files={"image": image}).json()["label"] == answer["colour.label"]
    refused = asked.post("/explain?task=taste", files={"image": image})
    assert (refused.status_code, "'taste' is not one of the model's: colour, pattern" in refused.text) == (400, True)


def test_onnx_has_an_output_for_each_task(chain: Chain, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    export(str(chain.folder / "model"), tmp_path / "exported")
    session = onnxruntime.InferenceSession(tmp_path / "exported" / "model.onnx")
    assert [output.name for output in session.get_outputs()] == ["colour.logits", "pattern.logits", "features"]
    model = ModelBundle.load(chain.folder / "model")
    contents = [file.read_bytes() for file in sorted((chain.folder / "raw").glob("*.png"))[:7]]
    pixels = np.stack([model.transform.pixels(content).numpy() for content in contents])
    for one, found in zip(model.by_task, session.run(None, {"pixels": pixels}), strict=False):
        assert found == pytest.approx(one.logits(contents), abs=1e-4)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["tasks"]) == {"colour": list(COLOURS), "pattern": list(PATTERNS)}


def test_eight_bits_keep_both_tasks(chain: Chain, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    export(str(chain.folder / "model"), tmp_path, int8=True, dataset=chain.folder / "dataset")
    session = onnxruntime.InferenceSession(tmp_path / "model.int8.onnx")
    assert [output.name for output in session.get_outputs()] == ["colour.logits", "pattern.logits", "features"]
    model = ModelBundle.load(chain.folder / "model")
    contents = [file.read_bytes() for file in sorted((chain.folder / "raw").glob("*.png"))[:40]]
    pixels = np.stack([model.transform.pixels(content).numpy() for content in contents])
    for one, found in zip(model.by_task, session.run(None, {"pixels": pixels}), strict=False):
        assert (found.argmax(1) == one.logits(contents).argmax(1)).mean() > 0.85
    told = capsys.readouterr().out
    assert "colour: " in told
    assert "pattern: " in told


def test_the_gate_names_the_task(chain: Chain, store: Path, tmp_path: Path) -> None:
    params = RegisterModelParams(name="strict", max_milliseconds=1e6, class_floor=1.0, max_ece=1e-9)
    found = register_model(*_in(chain.folder, "dataset", "model", "evaluation"), tmp_path / "version", params, LOG)
    assert all(reason.startswith("task '") for reason in found["reasons"])


def test_the_page_has_a_part_for_each_task(chain: Chain) -> None:
    page = (chain.folder / "evaluation" / "report.html").read_text()
    assert "2 questions of the same images" in page
    assert "Task “pattern”" in page
    assert 'id="task-2-confusion"' in page
    assert "Mistakes together" in page
    first, second = page.split('id="task-2"')
    assert "Where the model looked" in first
    assert "Where the model looked" in second


def test_random_weights_are_a_baseline_of_every_task_and_see_each_image_once(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = ImageDataset.read(chain.folder / "dataset")
    backbone = ModelBundle.load(chain.folder / "model").spec.backbone
    pretrained = backbone.model_copy(update={"weights": WeightsSpec(source="file", sha256="ab" * 32)})
    untrained, seen = UntrainedBackbone(images, pretrained, 0), []
    counted = random_init_baseline._features
    monkeypatch.setattr(
        random_init_baseline, "_features", lambda *args: seen.extend(args[2].tolist()) or counted(*args)
    )
    for task in images.tasks:
        found, own = untrained.predict(task), images.of_task(task)
        assert found is not None
        assert found.trained_on == len(own.labelled("train"))
        assert found.probabilities.shape == (len(own.labelled("test")), task.outputs)
    assert len(seen) == len(set(seen)) == len(images.labelled("train")) + len(images.labelled("test"))


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'patern' .* did you mean 'pattern' or 'path'\?"):
        learn(tmp_path, ("colour", "patern"))


def test_a_task_with_labels_in_training_alone(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "raw")
    with (folder / "manifest.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    for row in rows[1:]:
        row[2] = row[2] if row[3] == "train" else ""
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(DataError, match="empty_split: task 'pattern': no images in val and test"):
        validate_data(*_in(tmp_path, "raw", "dataset", "page"), ValidateDataParams(labels=LABELS), LOG)


def test_what_only_one_task_can_have(chain: Chain, tmp_path: Path) -> None:
    params = TrainHeadParams(init="source_labels")
    with pytest.raises(ParamsError, match=r"train_head\.init and source_labels are for one task"):
        train_head(chain.folder / "features", tmp_path / "head", params, LOG)


def test_a_backbone_is_trained_for_all_tasks(chain: Chain, tmp_path: Path) -> None:
    """A stage that the user asks for stays; every head is read from the trained backbone."""
    folder = chain.folder
    tuning = FineTuneParams(strategy="all", epochs=1, lr=1e-3, refit=True)
    found = fine_tune(folder / "dataset", folder / "features", folder / "head", tmp_path / "model", tuning, LOG)
    assert found["trained_groups"]
    assert "colour: log loss" in found["stages"][0]["reason"]
    assert "pattern: log loss" in found["stages"][0]["reason"]
    model, start = ModelBundle.load(tmp_path / "model"), ModelBundle.load(folder / "head")
    for one, before in zip(model.by_task, start.by_task, strict=True):
        assert not torch.equal(one.classifier.head.linear.weight, before.classifier.head.linear.weight)
        assert one.validation is not None
        assert one.spec.trained_groups == tuple(found["trained_groups"])
    places = [folder / "dataset", folder / "features", folder / "head", tmp_path / "model", tmp_path / "evaluation"]
    quick = EvaluateParams(bootstrap=100, random_init=False, explain=False, learning_curve=False)
    scores = evaluate(*places, quick, LOG)["tasks"]
    assert all(one["test"]["accuracy"]["value"] > 0.7 for one in scores.values())


def test_suspected_labels_name_their_task_and_are_relabelled_there(chain: Chain, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "raw")
    text = (folder / "manifest.csv").read_text()
    (folder / "manifest.csv").write_text(text.replace("0.png,blue,plain", "0.png,blue,striped", 1))
    params = ValidateDataParams(labels=LABELS)
    validate_data(*_in(tmp_path, "raw", "dataset", "page"), params, LOG)
    extract_features(*_in(tmp_path, "dataset", "features"), BACKBONE, LOG)
    train_head(*_in(tmp_path, "features", "head"), HEAD, LOG)
    review_features(*_in(tmp_path, "dataset", "features", "head", "review"), ReviewFeaturesParams(), LOG)
    queue = pd.read_csv(tmp_path / "review" / "queue.csv", dtype=str, keep_default_na=False)
    assert list(queue)[:4] == ["task", "path", "label", "suggested"]
    assert queue.iloc[0].tolist()[:4] == ["pattern", "0.png", "striped", "plain"]
    queue.loc[0, "decision"] = "relabel"
    queue.to_csv(tmp_path / "queue.csv", index=False)
    done = relabel(tmp_path / "queue.csv", folder, tasks=task_columns(LABELS))
    assert done.relabelled == 1
    assert (folder / "manifest.csv").read_text() == text


def test_one_task_writes_the_files_and_keys_it_always_did(finished_run: FinishedRun) -> None:
    """Nothing in the artifacts of one task tells that there could be several."""
    run = finished_run
    for file in (run.dataset / "dataset.json", run.folder / "features" / "features.json"):
        assert "further_tasks" not in read_json(file)
    assert "further_tasks" not in read_json(run.model / "bundle.json")
    assert "together" not in read_json(run.evaluation / "scores.json")
    assert "tasks" not in read_json(run.evaluation / "key_figures.json")
    assert not (run.model / "heads").exists()
    assert not (run.evaluation / "tasks").exists()
    page = (run.evaluation / "report.html").read_text()
    assert 'id="tasks"' not in page
    answers = ModelBundle.load(run.model).predict([ImageDataset.read(run.dataset).image(0)])
    assert list(answers)[:3] == ["path", "label", "confidence"]
