"""Tags drawn onto photos are learnt as well as scikit-learn learns them from the same features."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import average_precision_score, f1_score
from sklearn.preprocessing import StandardScaler

from components.evaluate.step import evaluate
from components.extract_features.step import extract_features
from components.train_head.step import train_head
from components.validate_data.step import validate_data
from graft.backbones.feature_store import FeatureStore
from graft.models.bundle import ModelBundle
from graft.models.inference import cached_logits
from graft.params.evaluate import EvaluateParams
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.train_head import TrainHeadParams
from graft.params.validate_data import ValidateDataParams
from graft.runs.run_log import SilentLog

LOG = SilentLog()
IMAGES, SIDE = 600, 96
SHARES = {"circle": 0.4, "cross": 0.25, "frame": 0.05}


class Learnt(NamedTuple):
    """Features and a head for the tags of photos."""

    folder: Path
    store: FeatureStore
    model: ModelBundle


def marked(photo: Path, tags: list[str], rng: np.random.Generator) -> Image.Image:
    """The middle of a photo with faint marks."""
    with Image.open(photo) as opened:
        image = opened.convert("RGB").resize((SIDE, SIDE))
    draw = ImageDraw.Draw(image)
    x, y = rng.integers(8, SIDE - 36, 2).tolist()
    colour = tuple(rng.integers(0, 256, 3).tolist())
    if "circle" in tags:
        draw.ellipse((x, y, x + 24, y + 24), outline=colour, width=2)
    if "cross" in tags:
        draw.line((y, x, y + 24, x + 24), fill=colour, width=2)
        draw.line((y, x + 24, y + 24, x), fill=colour, width=2)
    if "frame" in tags:
        draw.rectangle((4, 4, SIDE - 5, SIDE - 5), outline=colour, width=2)
    return image


@pytest.fixture(scope="module")
def learnt(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    folder, rng = tmp_path_factory.mktemp("marks"), np.random.default_rng(0)
    (folder / "raw").mkdir()
    photos = sorted((shared / "data" / "flower_photos_mini").rglob("*.jpg"))
    rows = [["path", "marks", "split"]]
    for number in range(IMAGES):
        tags = [name for name, share in SHARES.items() if rng.random() < share]
        marked(photos[number % len(photos)], tags, rng).save(folder / "raw" / f"{number}.png")
        # The same photo is in one split.
        split = ("train", "train", "test", "val", "test")[number % len(photos) % 5]
        rows.append([f"{number}.png", "|".join(tags), split])
    with (folder / "raw" / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    params = ValidateDataParams(labels={"marks": "tags"}, on_leakage="warn")
    validate_data(folder / "raw", folder / "dataset", folder / "page", params, LOG)
    extract_features(folder / "dataset", folder / "features", ExtractFeaturesParams(), LOG)
    train_head(folder / "features", folder / "head", TrainHeadParams(head="linear"), LOG)
    return Learnt(folder, FeatureStore.read(folder / "features"), ModelBundle.load(folder / "head"))


@pytest.mark.slow
def test_as_good_as_one_versus_rest(learnt: Learnt) -> None:
    store, model = learnt.store, learnt.model
    train, test, targets = store.labelled("train"), store.labelled("test"), store.targets()
    features = store.mapped(model.spec.head.taps, np.arange(len(store))).read()
    scaled = StandardScaler().fit(features[train]).transform(features)
    theirs = np.stack(
        [
            LogisticRegressionCV(Cs=np.logspace(-5, 0, 6), cv=5, max_iter=2000, scoring="average_precision")
            .fit(scaled[train], targets[train, tag])
            .predict_proba(scaled[test])[:, 1]
            for tag in range(3)
        ],
        axis=1,
    )
    ours = model.probabilities(cached_logits(store, model, test))
    found, expected = (average_precision_score(targets[test], scores, average="macro") for scores in (ours, theirs))
    print(f"macro mAP {found:.4f}, scikit-learn {expected:.4f}, at {model.spec.head.taps}")
    assert found > expected - 0.01


def test_thresholds_of_a_rare_tag_beat_a_half(learnt: Learnt) -> None:
    store, model = learnt.store, learnt.model
    test, task = store.labelled("test"), model.task
    truth = store.targets()[test, task.labels.index("frame")] > 0
    score = model.probabilities(cached_logits(store, model, test))[:, task.labels.index("frame")]
    own, half = (f1_score(truth, score >= limit) for limit in (task.threshold_of("frame"), 0.5))
    print(f"F1 {own:.3f} at {task.threshold_of('frame'):.3f}, {half:.3f} at 0.5; {truth.sum()} of {len(truth)}")
    assert own > half


def test_the_report_has_the_metrics_of_tags(learnt: Learnt) -> None:
    folder = learnt.folder
    places = [folder / name for name in ("dataset", "features", "head", "head", "evaluation")]
    quick = EvaluateParams(bootstrap=100, random_init=False, explain=False, learning_curve=False)
    found = evaluate(*places, quick, LOG)["test"]
    assert set(found) == {
        "accuracy",
        "mean_average_precision",
        "macro_f1",
        "micro_f1",
        "coverage_error",
        "log_loss",
    }
    assert found["mean_average_precision"]["low"] < found["mean_average_precision"]["value"] <= 1
    page = (folder / "evaluation" / "report.html").read_text()
    assert "Label by label" in page
    assert "frame" in page
