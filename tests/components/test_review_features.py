"""The step `review_features`: what it finds in images with planted faults, and that it reads what belongs together."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from components.extract_features.step import extract_features
from components.review_features.step import review_features
from components.train_head.step import train_head
from graft.core.errors import DataError, ModelError
from graft.data.dataset import ImageDataset, write_dataset
from graft.data.label_queue import read_queue
from graft.heads.out_of_fold import OUT_OF_FOLD_FILE, read_out_of_fold
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.review_features import ReviewFeaturesParams
from graft.params.train_head import TrainHeadParams
from graft.params.validate_data import ValidateDataParams
from graft.quality.label_errors import find_label_errors
from graft.quality.validation import validate
from graft.runs.run_log import SilentLog
from tests.support.encoded import scene

CLASSES = ("ants", "bees")
WRONG = ("train/ants/20.png", "train/bees/20.png")
"""Pictures that lie in the other class's folder."""
SMALL = ExtractFeaturesParams(backbone="tf_efficientnet_lite0", backend="torch", image_size=64)


class Recorder(SilentLog):
    """Remembers what a step logged."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.kept: dict[str | None, set[str]] = {}

    def metric(self, name: str, value: float, step: int = 0) -> None:
        self.metrics[name] = value

    def artifact(self, path: Path, folder: str | None = None, *, shared: bool = False) -> None:
        self.kept[folder] = {file.name for file in path.iterdir()}


def write_images(folder: Path) -> None:
    """Reddish and bluish scenes; two have the wrong label, and a test image is part of a training image."""
    for split, count in (("train", 24), ("val", 4), ("test", 12)):
        for label, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                wrong = f"{split}/{name}/{number}.png" in WRONG
                ground = Image.new("RGB", (96, 72), ("red", "blue")[1 - label if wrong else label])
                drawn = scene(1000 * count + 100 * label + number)
                Image.blend(drawn, ground, 0.4).save(folder / split / name / f"{number}.png")
    with Image.open(folder / "train" / "ants" / "3.png") as whole:
        whole.crop((0, 0, 80, 60)).save(folder / "test" / "ants" / "3.png")


def stored(folder: Path, images: Path) -> Path:
    """Dataset, features and head of a folder of images."""
    validate(images, ValidateDataParams(on_leakage="warn")).write(folder / "dataset")
    extract_features(folder / "dataset", folder / "features", SMALL, SilentLog())
    train_head(folder / "features", folder / "head", TrainHeadParams(folds=3, head="linear"), SilentLog())
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("review")
    write_images(folder / "images")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAFT_CACHE", "off")
        return stored(folder, folder / "images")


def review(folder: Path, out: Path, log: SilentLog | None = None, **params: object) -> dict[str, object]:
    section = ReviewFeaturesParams.model_validate(params)
    found = review_features(folder / "dataset", folder / "features", folder / "head", out, section, log or SilentLog())
    return dict(found)


def test_what_is_found_is_counted_logged_and_written(made: Path, tmp_path: Path) -> None:
    log = Recorder()
    metrics = review(made, tmp_path / "review", log)
    findings = json.loads((tmp_path / "review" / "findings.json").read_text())
    assert metrics["findings"] == {finding["kind"]: finding["count"] for finding in findings}
    (leak,) = [finding["groups"] for finding in findings if finding["kind"] == "leakage"]
    assert leak == [["test/ants/3.png", "train/ants/3.png"]]
    shift = metrics["shift"]
    assert isinstance(shift, dict)
    assert list(shift) == ["test"]
    low, auroc, high = shift["test"]
    assert low <= auroc <= high
    counts = {f"findings.{finding['kind']}": finding["count"] for finding in findings}
    assert log.metrics == {**counts, "shift.test": auroc}
    assert log.kept == {"review": {"review.html", "labels.html", "queue.csv", "findings.json"}}
    page = (tmp_path / "review" / "review.html").read_text()
    assert "train/ants/3.png" in page
    assert page.count("data:image/jpeg;base64") >= 2


def test_wrong_labels_are_found_by_probabilities_that_are_out_of_fold(made: Path, tmp_path: Path) -> None:
    metrics = review(made, tmp_path / "review")
    queue = {one.path for one in read_queue(tmp_path / "review" / "queue.csv")}
    assert set(WRONG) <= queue
    assert metrics["findings"]["label_error"] == len(queue)  # type: ignore[index]
    images = ImageDataset.read(made / "dataset")
    trained = images.table.iloc[images.indices("train")]
    probabilities = read_out_of_fold(made / "head", trained["id"], images.classes)
    given = images.targets()[images.indices("train")]
    wrong = trained["path"].isin(WRONG).to_numpy()
    # A head that had seen them could know them by heart; these probabilities contradict their labels.
    assert (probabilities[wrong, given[wrong]] < 0.5).all()
    assert probabilities[~wrong, given[~wrong]].mean() > 0.8
    expected = find_label_errors(trained.reset_index(drop=True), probabilities, images.classes)
    assert queue == set(expected["path"])


def test_thresholds_and_the_earlier_version_are_the_sections(made: Path, tmp_path: Path) -> None:
    metrics = review(made, tmp_path / "review", thresholds={"similarity": 1.0, "shift": 1.0})
    assert set(metrics["findings"]) <= {"label_error"}  # type: ignore[call-overload]
    with pytest.raises(DataError, match="earlier: no features here"):
        review(made, tmp_path / "review", reference=str(tmp_path / "earlier"))


def test_a_head_of_other_images_is_refused(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "head", tmp_path / "head")
    (tmp_path / "head" / OUT_OF_FOLD_FILE).unlink()
    paths = made / "dataset", made / "features", tmp_path / "head", tmp_path / "review"
    with pytest.raises(ModelError, match="no out-of-fold probabilities"):
        review_features(*paths, ReviewFeaturesParams(), SilentLog())
    images = ImageDataset.read(made / "dataset")
    table = images.table.copy()
    table.loc[images.indices("train")[0], "split"] = "test"
    rows = range(len(table))
    write_dataset(tmp_path / "dataset", table, (images.image(row) for row in rows), images.classes)
    others = tmp_path / "dataset", made / "features", made / "head", tmp_path / "review"
    with pytest.raises(ModelError, match="not of the training images of this dataset"):
        review_features(*others, ReviewFeaturesParams(), SilentLog())
    write_dataset(tmp_path / "part", table[1:], (images.image(row) for row in rows[1:]), images.classes)
    with pytest.raises(DataError, match="features of other images"):
        review_features(tmp_path / "part", *others[1:], ReviewFeaturesParams(), SilentLog())


@pytest.mark.slow
def test_the_command_line(made: Path, tmp_path: Path, root: Path) -> None:
    ports = {name: made / name for name in ("dataset", "features", "head")}
    ports |= {"review": tmp_path / "review", "metrics": tmp_path / "review_features.json"}
    options = [text for name, path in ports.items() for text in (f"--{name}", str(path))]
    command = [sys.executable, "-m", "components.review_features.step", *options]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads((tmp_path / "review_features.json").read_text())
    assert set(metrics) == {"findings", "shift", "seconds"}
    plain = review(made, tmp_path / "plain")
    assert metrics["findings"] == plain["findings"]
    for name in ("queue.csv", "findings.json", "labels.html"):
        assert (tmp_path / "review" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
