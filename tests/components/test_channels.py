"""Images of 1, 4 and 6 channels through the steps; what tells their classes apart, RGB would not show."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.evaluate.step import evaluate
from components.extract_features.step import extract_features
from components.fine_tune.step import fine_tune
from components.register_model.step import register_model
from components.review_features.step import review_features
from components.train_head.step import train_head
from components.validate_data.step import validate_data
from graft.backbones.feature_store import FeatureStore
from graft.batch_prediction.folder_prediction import BatchModel, predict_folder
from graft.core.atomic import read_json
from graft.core.errors import DataError
from graft.data.dataset import ImageDataset
from graft.models.bundle import ModelBundle
from graft.params.evaluate import EvaluateParams
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.fine_tune import FineTuneParams
from graft.params.register_model import RegisterModelParams
from graft.params.review_features import ReviewFeaturesParams
from graft.params.train_head import TrainHeadParams
from graft.params.validate_data import ValidateDataParams
from graft.runs.run_log import SilentLog
from tests.support.encoded import encoded, paged

LOG = SilentLog()
SIDE, PER_CLASS = 32, 24
CLASSES = ("coarse", "fine")


def samples(channels: int, label: int, number: int) -> np.ndarray:
    """Noise, and stripes of the class's own width in the last channel."""
    generator = np.random.default_rng([channels, label, number])
    made = generator.integers(0, 256, (SIDE, SIDE, channels), dtype=np.uint8)
    stripes = (np.arange(SIDE) + number) // (8, 2)[label] % 2
    made[:, :, -1] = 60 + 120 * stripes[:, None] + made[:, :, -1] // 8
    return made


def file_of(made: np.ndarray) -> tuple[str, bytes]:
    if made.shape[2] == 1:
        return "png", encoded(Image.fromarray(made[:, :, 0]), "PNG")
    if made.shape[2] == 4:
        return "png", encoded(Image.frombytes("RGBA", (SIDE, SIDE), made.tobytes()), "PNG")
    return "tif", paged(made)


def image_folder(folder: Path, channels: int) -> Path:
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            suffix, content = file_of(samples(channels, label, number))
            (folder / name / f"{number:02d}.{suffix}").write_bytes(content)
    return folder


@dataclass(frozen=True)
class Made:
    folder: Path
    channels: int
    page: Path

    @property
    def dataset(self) -> ImageDataset:
        return ImageDataset.read(self.folder / "dataset")

    @property
    def head(self) -> ModelBundle:
        return ModelBundle.load(self.folder / "head")


@pytest.fixture(scope="module", params=[1, 4, 6])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Everything up to the head."""
    folder = tmp_path_factory.mktemp(f"channels-{request.param}")
    raw = image_folder(folder / "raw", request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAFT_CACHE", str(folder / "cache"))
        validate_data(
            raw, folder / "dataset", folder / "page", ValidateDataParams(channels=request.param, expectations=""), LOG
        )
        extract_features(folder / "dataset", folder / "features", ExtractFeaturesParams(image_size=SIDE), LOG)
    head = TrainHeadParams(l2=0.01, folds=3, reuse_depth="blocks.1", head="linear")
    train_head(folder / "features", folder / "head", head, LOG)
    return Made(folder, request.param, folder / "page")


def test_validation_passes_and_the_dataset_says_what_it_holds(made: Made) -> None:
    assert made.dataset.spec.channels == made.channels
    kinds = {finding["kind"] for finding in read_json(made.page / "findings.json")}
    assert not kinds & {"animated", "odd_mode", "transparent", "undecodable", "near_duplicate"}
    assert (made.page / "data.html").read_text().count("data:image/jpeg;base64") > 4


def test_their_features_are_reviewed(made: Made, tmp_path: Path) -> None:
    folders = [made.folder / name for name in ("dataset", "features", "head")]
    # So low a limit takes many pictures for copies, which the page shows.
    params = ReviewFeaturesParams.model_validate({"thresholds": {"similarity": 0.1}})
    metrics = review_features(*folders, tmp_path / "review", params, LOG)
    assert set(metrics["findings"]) & {"near_duplicate", "leakage", "contradiction"}
    assert (tmp_path / "review" / "review.html").read_text().count("data:image/jpeg;base64") > 2


def test_features_see_every_channel(made: Made) -> None:
    store = FeatureStore.read(made.folder / "features")
    transform = store.spec.backbone.transform
    assert transform.shape == (made.channels, SIDE, SIDE)
    assert len(transform.mean) == len(transform.std) == made.channels
    head, dataset = made.head, made.dataset
    rows = dataset.indices("test")
    reader = dataset.reader()
    answers = head.predict([reader[int(row)] for row in rows])["label"]
    assert (answers.to_numpy() == dataset.table["label"].to_numpy()[rows]).mean() >= 0.9


def test_files_arrays_and_pictures_are_one(made: Made, tmp_path: Path) -> None:
    array = samples(made.channels, 0, 99)
    suffix, content = file_of(array)
    file = tmp_path / f"a.{suffix}"
    file.write_bytes(content)
    images = [file, content, array, *([Image.open(file)] if made.channels < 6 else [])]
    answers = made.head.predict(images)
    assert answers[list(CLASSES)].nunique().tolist() == [1, 1]


def test_other_channels_are_named(made: Made, tmp_path: Path) -> None:
    (tmp_path / "b.tif").write_bytes(paged(samples(5, 0, 0)))
    if made.channels > 1:
        with pytest.raises(DataError, match=rf"b\.tif: 5 channels found, expected {made.channels}$"):
            made.head.predict(tmp_path / "b.tif")
    with pytest.raises(DataError, match=r"^image 0: image array of 2 channels: expected "):
        made.head.predict(samples(2, 0, 0))


def test_a_folder_at_once(made: Made, tmp_path: Path) -> None:
    model = BatchModel(made.head, "digest", None)
    (made.folder / "new").mkdir(exist_ok=True)
    for number in range(3):
        suffix, content = file_of(samples(made.channels, 1, 200 + number))
        (made.folder / "new" / f"{number}.{suffix}").write_bytes(content)
    (made.folder / "new" / "other.tif").write_bytes(b"II*\0")
    found = predict_folder(model, made.folder / "new", tmp_path / "out")
    assert (found.images, found.errors) == (4, 1)


def test_only_new_images_are_run(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_CACHE", str(made.folder / "cache"))
    params = ExtractFeaturesParams(image_size=SIDE)
    metrics = extract_features(made.folder / "dataset", tmp_path / "again", params, LOG)
    assert (metrics["new_images"], metrics["channels"]) == (0, made.channels)
    other = params.model_copy(update={"stem": "average"})
    metrics = extract_features(made.folder / "dataset", tmp_path / "other", other, LOG)
    assert metrics["new_images"] == len(made.dataset)


@pytest.mark.slow
def test_fine_tuned_down_to_the_stem_judged_and_served(made: Made, tmp_path: Path, store: Path) -> None:
    dataset, features, head = (made.folder / name for name in ("dataset", "features", "head"))
    model = tmp_path / "model"
    tuning = FineTuneParams(strategy="upper", depth="stem", epochs=2, lr=1e-5, batch_size=8, folds=0, refit=False)
    stages = fine_tune(dataset, features, head, model, tuning, LOG)["stages"]
    assert stages[0]["groups"][0] == "stem"
    measured = evaluate(
        dataset,
        made.folder / "features",
        head,
        model,
        tmp_path / "evaluation",
        EvaluateParams(bootstrap=100, random_init=True),
        LOG,
    )
    assert measured["test"]["accuracy"]["value"] >= 0.8
    report = (tmp_path / "evaluation" / "report.html").read_text()
    assert report.count("data:image/jpeg;base64") > 4
    params = RegisterModelParams(name="bands", max_milliseconds=60_000, max_ece=1.0)
    # The registered model has answered like the bundle, or this raises.
    done = register_model(dataset, model, tmp_path / "evaluation", tmp_path / "registration", params, LOG)
    assert done["version"] == 1


def test_images_of_other_channels_fail_validation_or_are_left_out(tmp_path: Path) -> None:
    raw = image_folder(tmp_path / "raw", 4)
    (raw / "fine" / "rgb.png").write_bytes(encoded(Image.new("RGB", (SIDE, SIDE), (9, 90, 200)), "PNG"))
    params = ValidateDataParams(channels=4, expectations="")
    with pytest.raises(DataError, match=r"fine/rgb.png \(3 channels found, expected 4\).*set validate_data.channels"):
        validate_data(raw, tmp_path / "dataset", tmp_path / "page", params, LOG)
    dropping = params.model_copy(update={"on_bad_image": "drop"})
    metrics = validate_data(raw, tmp_path / "dataset", tmp_path / "page2", dropping, LOG)
    assert metrics["findings"]["channels"] == 1
    assert metrics["images"] == 2 * PER_CLASS


def test_pages_where_rgb_is_asked_for_are_frames_as_ever(tmp_path: Path) -> None:
    raw = image_folder(tmp_path / "raw", 6)
    metrics = validate_data(raw, tmp_path / "dataset", tmp_path / "page", ValidateDataParams(expectations=""), LOG)
    assert metrics["findings"]["animated"] == 2 * PER_CLASS
    assert ImageDataset.read(tmp_path / "dataset").spec.channels == 3
