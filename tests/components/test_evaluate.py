"""The step `evaluate` on real images, real features and a real head."""

import csv
import dataclasses
import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from dvc_render.vega import VegaRenderer

from components.evaluate.step import evaluate
from components.extract_features.step import extract_features
from components.train_head.step import train_head
from graft.backbones.feature_store import FeatureStore
from graft.backbones.pretrained_classifier import ZeroShot
from graft.backbones.weights import WeightsSpec
from graft.core.errors import DataError, ModelError, ParamsError
from graft.data.dataset import ImageDataset, write_dataset
from graft.evaluation.error_gallery import make_gallery
from graft.evaluation.held_out_table import probabilities_of, read_predictions
from graft.evaluation.predictions import predict_held_out
from graft.evaluation.random_init_baseline import UntrainedBackbone
from graft.evaluation.schema import read_evaluation, read_roc
from graft.models.bundle import ModelBundle
from graft.models.bundle_spec import HeadScore
from graft.models.inference import cached_logits
from graft.params.evaluate import EvaluateParams
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.train_head import TrainHeadParams
from graft.reports.model_card import markdown, model_card
from graft.reports.write_evaluation import model_origin, provenance
from graft.runs.run_log import SilentLog
from graft.stats.metrics import accuracy
from tests.support.pictures import picture
from tests.support.unsealed import unsealed

LOG = SilentLog()
CLASSES = ("ant", "bee", "cow & <calf>")


class Recorder(SilentLog):
    """Remembers what a step logged."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.sums: dict[str, float] = {}
        self.kept: list[Path] = []

    def metric(self, name: str, value: float, step: int = 0) -> None:
        self.metrics[name] = value

    def summary(self, values) -> None:
        self.sums.update(values)

    def artifact(self, path: Path, folder: str | None = None, *, shared: bool = False) -> None:
        self.kept.append(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with dataset, features, head (and model: its copy) and evaluation."""
    folder = tmp_path_factory.mktemp("evaluate")
    rows, contents = [], []
    for split, count in (("train", 24), ("val", 12), ("test", 16)):
        for label, name in enumerate(CLASSES):
            for number in range(count):
                # The last class is drawn as the first now and then, so that there are mistakes to show.
                drawn = 0 if label == 2 and number % 4 == 0 else label
                content = io.BytesIO()
                picture(drawn, 1000 * label + len(split) * 97 + number).save(content, "PNG")
                contents.append(content.getvalue())
                rows.append({"path": f"{split}/{name}/{number}.png", "label": name, "split": split})
    table = pd.DataFrame(rows).assign(
        id=[hashlib.sha256(content).hexdigest() for content in contents],
        group=[str(number) for number in range(len(rows))],
        domain=["", "cellar"] * (len(rows) // 2),
        format="PNG",
        mode="RGB",
        width=24,
        height=24,
        bytes=[len(content) for content in contents],
    )
    write_dataset(folder / "dataset", table, contents, CLASSES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAFT_CACHE", "off")
        extract_features(
            dataset=folder / "dataset",
            features=folder / "features",
            params=ExtractFeaturesParams(backbone="resnet18", weights="none", image_size=64, workers=1),
            log=LOG,
        )
    train_head(features=folder / "features", head=folder / "head", params=TrainHeadParams(l2=0.001, folds=2), log=LOG)
    shutil.copytree(folder / "head", folder / "model")
    return folder


@pytest.fixture(scope="module")
def evaluated(run: Path) -> tuple[Path, dict, Recorder]:
    log = Recorder()
    metrics = evaluate(
        dataset=run / "dataset",
        features=run / "features",
        head=run / "head",
        model=run / "model",
        evaluation=run / "evaluation",
        params=EvaluateParams(bootstrap=100),
        log=log,
    )
    return run / "evaluation", dict(metrics), log


def test_scores_have_intervals_and_agree_with_the_predictions(evaluated: tuple[Path, dict, Recorder]) -> None:
    folder, metrics, _ = evaluated
    found, table = read_evaluation(folder), read_predictions(folder)
    test = table[table["split"] == "test"]
    assert found.images == {"train": 72, "val": 36, "test": 48}
    assert metrics["test"]["accuracy"]["value"] == pytest.approx((test["label"] == test["predicted"]).mean())
    for name, estimate in found.test.items():
        assert estimate.low <= estimate.value <= estimate.high, name
    targets = np.array([found.classes.index(label) for label in test["label"]])
    assert found.head["accuracy"].value == pytest.approx(
        accuracy(targets, probabilities_of(test, "head_probabilities"))[0]
    )
    assert found.baseline["majority"]["accuracy"].value == pytest.approx(1 / 3)
    assert np.sum(found.confusion) == 48
    json.dumps(metrics, allow_nan=False)


def test_page_and_card_tell_the_head_and_what_the_source_knew(
    evaluated: tuple[Path, dict, Recorder], run: Path
) -> None:
    found, spec = read_evaluation(evaluated[0]), ModelBundle.load(run / "head").spec
    assert "classes that its source knows" not in provenance(found, spec)["Backbone"]
    score = HeadScore(kind="cosine", accuracy=0.9, low=0.8, high=1.0, log_loss=0.25, l2=0.1)
    known = spec.model_copy(
        update={
            "heads": (score,),
            "source_labels": {"ant": ("ant",), "bee": ("bee", "fly")},
            "zero_shot": (ZeroShot(split="val", images=24, accuracy=0.75, low=0.5, high=0.9),),
            "started_from_source": True,
        }
    )
    told = provenance(found, known)
    assert told["Training"]["head"] == (
        "linear, started from the source's labels; cross-validated log loss: cosine 0.250"
    )
    assert told["Backbone"]["classes that its source knows"] == "ant as ant, bee as bee or fly"
    assert told["Backbone"]["right untrained, val"] == "75.0 % (50.0 to 90.0 %) of 24 images"
    card = markdown(model_card(found, model_origin(known)), "Model card")
    assert "- Classes that its source knows: ant as ant, bee as bee or fly.\n" in card
    assert "- Right untrained, val: 75.0 %" in card


def test_predictions_hold_every_validation_and_test_image(evaluated: tuple[Path, dict, Recorder], run: Path) -> None:
    table = read_predictions(evaluated[0])
    images = ImageDataset.read(run / "dataset")
    assert set(table["id"]) == set(images.table.loc[images.table["split"] != "train", "id"])
    np.testing.assert_allclose(probabilities_of(table).sum(axis=1), 1.0)
    best = np.asarray(images.classes)[probabilities_of(table).argmax(axis=1)]
    np.testing.assert_array_equal(table["predicted"].to_numpy(), best)
    np.testing.assert_allclose(table["probability"], probabilities_of(table).max(axis=1))


def test_the_same_model_shows_no_difference_to_itself(evaluated: tuple[Path, dict, Recorder]) -> None:
    comparison = read_evaluation(evaluated[0]).comparison["head"]
    assert comparison.outcome == "identical"
    assert (comparison.only_model_right, comparison.only_other_right) == (0, 0)


def test_logits_from_the_cache_are_those_of_the_images(run: Path) -> None:
    images, store = ImageDataset.read(run / "dataset"), FeatureStore.read(run / "features")
    head = ModelBundle.load(run / "head")
    rows = images.indices("test")
    reader = images.reader()
    forward = head.logits([reader[row] for row in rows])
    np.testing.assert_allclose(cached_logits(store, head, rows), forward, atol=1e-4 * np.abs(forward).max())


def test_cached_features_answer_for_a_backbone_that_was_not_trained(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, store = ImageDataset.read(run / "dataset"), FeatureStore.read(run / "features")
    model = ModelBundle.load(run / "model")
    seen: list[int] = []
    stream = ModelBundle.stream

    def counted(self: ModelBundle, contents, what: str, total: int):
        seen.append(total)
        return stream(self, contents, what, total)

    monkeypatch.setattr(ModelBundle, "stream", counted)
    found = predict_held_out(images, store, model, model)
    assert seen == [64], "84 images, of which 64 were checked"
    trained = dataclasses.replace(model, spec=model.spec.model_copy(update={"trained_groups": ("layer4",)}))
    computed = predict_held_out(images, store, model, trained)
    assert seen == [64, 84]
    np.testing.assert_allclose(found.logits, computed.logits, atol=1e-4 * np.abs(found.logits).max())
    np.testing.assert_allclose(found.ood, computed.ood, rtol=1e-3)
    # Features as another machine rounds them: the network answers for all images.
    rounded = unsealed(Path(shutil.copytree(run / "features", tmp_path / "rounded")))
    noise = np.random.default_rng(0)
    for file in (rounded / "taps").glob("*.npy"):
        values = np.load(file)
        np.save(file, (values * (1 + 0.003 * noise.normal(size=values.shape))).astype(np.float32))
    predict_held_out(images, FeatureStore.read(rounded), model, model)
    assert seen == [64, 84, 64, 84]
    # Features of other images, or of another backbone.
    for file in (rounded / "taps").glob("*.npy"):
        np.save(file, np.load(file)[::-1])
    with pytest.raises(ModelError, match=r"^features: they change a probability of the model by 0\.\d+, so another"):
        predict_held_out(images, FeatureStore.read(rounded), model, model)


def test_a_random_start_is_not_compared_with_itself(evaluated: tuple[Path, dict, Recorder]) -> None:
    assert set(read_evaluation(evaluated[0]).comparison) == {"head", "majority"}


def test_the_same_backbone_with_random_weights_is_a_baseline(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = ImageDataset.read(run / "dataset")
    rows = images.indices("test")
    begun_at_random = ModelBundle.load(run / "model").spec.backbone
    pretrained = begun_at_random.model_copy(update={"weights": WeightsSpec(source="file", sha256="ab" * 32)})
    found = UntrainedBackbone(images, pretrained, 0).predict(images.task)
    np.testing.assert_array_equal(found.test, rows)
    assert found.trained_on == 72
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1.0)
    right = accuracy(images.targets()[rows], found.probabilities)[0]
    assert right > 0.6, "stripes of three colours can be told apart by anything"
    monkeypatch.setattr("graft.evaluation.random_init_baseline.TRAIN_IMAGES", 30)
    monkeypatch.setattr("graft.evaluation.random_init_baseline.TEST_IMAGES", 24)
    sampled = UntrainedBackbone(images, pretrained, 0).predict(images.task)
    assert sampled.trained_on == 30
    assert set(sampled.test) < set(rows)
    assert set(images.targets()[sampled.test]) == {0, 1, 2}
    assert UntrainedBackbone(images, pretrained, 0, every_image=True).predict(images.task).trained_on == 72


def test_the_record_and_the_pages(evaluated: tuple[Path, dict, Recorder]) -> None:
    folder, metrics, log = evaluated
    assert log.metrics["test_accuracy"] == metrics["test"]["accuracy"]["value"]
    assert log.sums["test_accuracy"] == log.metrics["test_accuracy"]
    assert log.kept == [folder]
    page = (folder / "report.html").read_text()
    assert "cow &amp; &lt;calf&gt;" in page
    assert "<calf>" not in page
    assert "data:image/jpeg;base64," in page
    card = (folder / "card.md").read_text()
    assert card.startswith("# Model card: ant · bee · cow & \\<calf\\>\n")
    assert "## Intended use" in card
    for figure in ("comparison", "reliability", "roc", "confusion", "reuse_depth"):
        assert (folder / "figures" / f"{figure}.svg").read_text().startswith("<svg ")


def test_what_to_expect_in_use(evaluated: tuple[Path, dict, Recorder], run: Path) -> None:
    found = read_evaluation(evaluated[0])
    assert found.calibration
    assert found.calibration.temperature == ModelBundle.load(run / "model").spec.temperature
    assert found.calibration.after["ece"].value == pytest.approx(found.test["ece"].value, abs=1e-9)
    assert found.trust
    assert found.trust.coverage == 0.9
    assert found.trust.held.high >= 0.8
    assert found.threshold is None
    assert {part.column for part in found.slices} == {"domain"}
    assert sum(part.images for part in found.slices) == 48
    assert found.learning
    assert found.learning.points[-1]["images"] == 72
    model, backbone = found.efficiency["model"], found.efficiency["backbone"]
    assert model.parameters <= backbone.parameters + 10_000
    assert model.megaflops <= backbone.megaflops + 1


def test_pictures_show_where_it_looked_and_what_it_is_reminded_of(
    evaluated: tuple[Path, dict, Recorder], run: Path
) -> None:
    images, store = ImageDataset.read(run / "dataset"), FeatureStore.read(run / "features")
    model = ModelBundle.load(run / "model")
    answers = predict_held_out(images, store, model, model)
    found = read_evaluation(evaluated[0])
    gallery = make_gallery(images, store, model, answers, found, explain=True)
    assert len(gallery.mistakes) == 48 - round(found.test["accuracy"].value * 48)
    sureness = [one.probability for one in gallery.mistakes]
    assert sureness == sorted(sureness, reverse=True)
    assert all(not one.right and one.attention and len(one.nearest) == 3 for one in gallery.mistakes)
    train = set(images.table.loc[images.table["split"] == "train", "path"])
    assert all(near.path in train for one in gallery.samples for near in one.nearest)
    assert set(gallery.confused) == {(pair.label, pair.predicted) for pair in found.most_confused}
    plain = make_gallery(images, store, model, answers, found, explain=False)
    assert all(one.attention is None for one in plain.mistakes)


def test_tables_for_dvc_plots(evaluated: tuple[Path, dict, Recorder]) -> None:
    with (evaluated[0] / "plots" / "confusion.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 48
    assert set(rows[0]) == {"actual", "predicted"}
    roc = pd.read_csv(evaluated[0] / "plots" / "roc.csv")
    assert roc["true_positive_rate"].between(0, 1).all()
    assert [len(values) for values in read_roc(evaluated[0])] == [len(roc)] * 3
    curve = pd.read_csv(evaluated[0] / "plots" / "precision_recall.csv")
    assert curve["recall"].iloc[-1] == 1.0
    assert curve["precision"].between(0, 1).all()


def test_dvc_draws_a_line_for_each_class(root: Path) -> None:
    drawn = {
        name: options
        for entry in yaml.safe_load((root / "dvc.yaml").read_text())["plots"]
        for name, options in entry.items()
    }
    for name in ("roc", "precision_recall"):
        options = drawn[f"artifacts/evaluation/plots/{name}.csv"]
        rows = [{options["x"]: 0.1, options["y"]: 0.2, "label": label, "threshold": 0.5, "rev": "w"} for label in "ab"]
        made = VegaRenderer(rows, name, template_dir=str(root / ".dvc/plots"), **options).get_filled_template()
        assert made["encoding"]["color"]["field"] == "label"
        assert (made["encoding"]["x"]["field"], made["encoding"]["y"]["field"]) == (options["x"], options["y"])


def edited(run: Path, tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
    images = ImageDataset.read(run / "dataset")
    reader = images.reader()
    write_dataset(
        tmp_path / "dataset", change(images.table.copy()), (reader[i] for i in range(len(images))), images.classes
    )
    return tmp_path / "dataset"


def test_models_of_other_data_are_refused(run: Path, tmp_path: Path) -> None:
    other = ImageDataset.read(edited(run, tmp_path, lambda table: table.assign(label=table["label"].to_numpy()[::-1])))
    head = ModelBundle.load(run / "head")
    with pytest.raises(
        ModelError, match=r"^features: made from dataset \w{12}, but this is \w{12}; run its step again$"
    ):
        predict_held_out(other, FeatureStore.read(run / "features"), head, head)


def test_a_dataset_without_test_images_is_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.evaluation.predictions._belong_together", lambda *_: None)
    other = ImageDataset.read(edited(run, tmp_path, lambda table: table.assign(split="train")))
    head = ModelBundle.load(run / "head")
    with pytest.raises(DataError, match="no test image in the dataset"):
        predict_held_out(other, FeatureStore.read(run / "features"), head, head)


def test_a_positive_class_that_is_none_is_refused_at_once(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"evaluate\.positive='bee': only two classes .* there are 3; leave it null"):
        evaluate(
            dataset=run / "dataset",
            features=run / "features",
            head=tmp_path / "not read",
            model=tmp_path / "not read",
            evaluation=tmp_path / "evaluation",
            params=EvaluateParams(positive="bee"),
            log=LOG,
        )
