import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.register_model.step import register_model
from graft import load
from graft.batch_prediction.folder_prediction import BatchModel, predict_folder
from graft.core.atomic import read_json
from graft.core.errors import DataError, ParamsError, RegistryError
from graft.data.dataset import ImageDataset, write_dataset
from graft.evaluation.held_out_table import read_predictions
from graft.evaluation.schema import ThresholdScore, read_evaluation, write_evaluation
from graft.models.bundle import ModelBundle
from graft.models.fit_abstention import with_abstention
from graft.params.register_model import RegisterModelParams
from graft.runs import pipeline_runs
from graft.runs.mlflow_store import open_client
from graft.runs.run_log import SilentLog
from graft.serving.evidence import Evidence
from graft.serving.packaging import PackedPredictor
from graft.serving.registration import Registration, check_packed_model, register, summary
from graft.serving.registry import CHALLENGER, CHAMPION, Registry
from tests.support.tiny import bundle_of, evaluated, small_dataset

PARAMS = RegisterModelParams(name="insects", max_milliseconds=60_000)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    return small_dataset(tmp_path_factory.mktemp("data") / "dataset")


@pytest.fixture(scope="module")
def models(dataset: ImageDataset, tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], tuple[Path, Path]]:
    """Return the folders of a bundle, trained with this share of its labels shuffled, and of its evaluation."""
    folder, made = tmp_path_factory.mktemp("models"), {}

    def model(shuffled: float) -> tuple[Path, Path]:
        if shuffled not in made:
            bundle = bundle_of(dataset, shuffled)
            place = folder / f"{shuffled}"
            bundle.save(place / "model")
            made[shuffled] = place / "model", evaluated(dataset, bundle, place / "evaluation")
        return made[shuffled]

    return model


@pytest.fixture
def registered(
    dataset: ImageDataset, models: Callable[[float], tuple[Path, Path]], store: Path
) -> Callable[..., Registration]:
    def make(shuffled: float = 0.0, params: RegisterModelParams = PARAMS) -> Registration:
        model, evaluation = models(shuffled)
        evidence = Evidence.read(evaluation, dataset)
        return register(Registry.open(params.name), ModelBundle.load(model), model, evidence, params, {"git": "abc"})

    return make


def test_the_first_model_becomes_champion_and_predicts_as_evaluated(registered: Callable[..., Registration]) -> None:
    found = registered()
    assert found.promoted
    assert found.version.aliases == (CHAMPION,)
    assert found.against_champion is None
    assert found.difference < 1e-5
    assert found.milliseconds > 0
    tags = found.version.tags
    assert tags["verdict"] == "promoted"
    assert {"data.digest", "weights.digest", "code.digest", "git", "backbone", "test.accuracy"} <= set(tags)
    assert summary(found)["alias"] == CHAMPION


def test_a_worse_model_stays_challenger_and_a_good_one_replaces_and_rolls_back(
    registered: Callable[..., Registration],
) -> None:
    params = PARAMS.model_copy(update={"tolerance": 0.1})
    registered(params=params)
    worse = registered(0.8, params)
    assert not worse.promoted
    assert worse.replaced == 1
    assert worse.version.aliases == (CHALLENGER,)
    assert worse.version.tags["verdict"] == "refused"
    assert worse.version.tags["reason.1"] == worse.reasons[0]
    assert any("within 0.1 of champion version 1" in reason for reason in worse.reasons)
    assert worse.against_champion.differences["accuracy"].low < -0.1
    assert summary(worse)["comparison"]["against"] == "champion"
    again = registered(0.0, params)
    assert again.promoted
    registry = Registry.open("insects")
    assert registry.champion() == again.version
    assert registry.rollback(check_packed_model).number == 1
    with pytest.raises(RegistryError, match="no champion before version 1"):
        registry.rollback(check_packed_model)


def test_a_champion_of_other_classes_is_not_compared(
    registered: Callable[..., Registration], packed_model: Path, tmp_path: Path, dataset: ImageDataset
) -> None:
    registry = Registry.open("insects")
    digits = tmp_path / "digits"
    shutil.copytree(packed_model, digits)
    spec = digits / "artifacts" / "network" / "serving.json"
    spec.write_text(spec.read_text().replace('"cat"', '"dog"'))
    registry.promote(registry.register(digits, {}).number)
    found = registered()
    assert not found.promoted
    assert "has other classes (ant, bee, dog)" in found.reasons[0]


def test_a_champion_without_stored_predictions_is_run(
    registered: Callable[..., Registration], packed_model: Path
) -> None:
    registry = Registry.open("insects")  # an untrained champion of the same classes, evaluated on nothing
    registry.promote(registry.register(packed_model, {}).number)
    found = registered()
    assert found.promoted
    assert found.replaced == 1


def grown(dataset: ImageDataset, folder: Path, moved: int) -> ImageDataset:
    """Return the data with four new test images of each class, and with `moved` training images of each in the test."""
    table = dataset.table.copy()
    of_class = table.groupby(["label", "split"]).cumcount()
    train = (table["split"] == "train").to_numpy()
    new = table[train & (of_class < 4).to_numpy()].copy()
    # Trailing bytes make a file another one, and leave its picture as it is.
    added = [dataset.image(row) + bytes([0, number]) for number, row in enumerate(new.index)]
    new["id"] = [sha256(content).hexdigest() for content in added]
    new["group"] = new["id"]
    table.loc[train & (of_class < moved).to_numpy(), "split"] = "test"
    both = pd.concat([table, new.assign(split="test", path=[f"{name}.png" for name in new["id"]])], ignore_index=True)
    contents = [*map(dataset.image, range(len(table))), *added]
    return write_dataset(folder, both, contents, dataset.classes)


@pytest.mark.parametrize("moved", [0, 5])
def test_a_champion_is_judged_on_images_that_it_was_not_trained_on(
    registered: Callable[..., Registration], dataset: ImageDataset, tmp_path: Path, moved: int
) -> None:
    params = PARAMS.model_copy(update={"tolerance": 0.3})
    first = registered(params=params)
    assert first.promoted
    data = grown(dataset, tmp_path / "dataset", moved)
    bundle = bundle_of(data)
    bundle.save(tmp_path / "model")
    evidence = Evidence.read(evaluated(data, bundle, tmp_path / "evaluation"), data)
    found = register(Registry.open(params.name), bundle, tmp_path / "model", evidence, params, {"git": "abc"})
    assert found.champion is not None
    assert found.champion.left_out == summary(found)["left_out"] == 3 * moved
    assert found.against_champion is not None
    comparison = found.champion.comparison
    assert comparison is not None
    old = dataset.indices("test")
    assert len(evidence.rows) == len(old) + 3 * (4 + moved)


def test_a_champion_that_was_trained_on_every_test_image_is_not_compared(
    registered: Callable[..., Registration], dataset: ImageDataset, tmp_path: Path
) -> None:
    registered()
    swap = {"train": "test", "test": "train", "val": "val"}
    table = dataset.table.assign(split=dataset.table["split"].map(swap))
    data = write_dataset(tmp_path / "dataset", table, map(dataset.image, range(len(table))), dataset.classes)
    bundle = bundle_of(data)
    bundle.save(tmp_path / "model")
    evidence = Evidence.read(evaluated(data, bundle, tmp_path / "evaluation"), data)
    found = register(Registry.open(PARAMS.name), bundle, tmp_path / "model", evidence, PARAMS, {"git": "abc"})
    assert not found.promoted
    assert "champion version 1 was trained on all test images" in found.reasons[0]


def test_an_evaluation_of_other_data_is_refused(
    dataset: ImageDataset, models: Callable[[float], tuple[Path, Path]], tmp_path: Path
) -> None:
    _, evaluation = models(0.0)
    copy = tmp_path / "evaluation"
    copy.mkdir()
    (copy / "scores.json").write_text((evaluation / "scores.json").read_text().replace(dataset.spec.digest, "0" * 64))
    with pytest.raises(DataError, match="evaluated on dataset 000000000000, but this one is"):
        Evidence.read(copy, dataset)
    (copy / "scores.json").write_text((evaluation / "scores.json").read_text())
    with pytest.raises(DataError, match="test images are missing"):
        Evidence.read(copy, dataset)


def test_the_step_writes_its_outcome_and_finishes_the_pipeline_run(
    dataset: ImageDataset,
    models: Callable[[float], tuple[Path, Path]],
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GRAFT_PIPELINE_RUN", key := pipeline_runs.new_pipeline_run_key())
    model, evaluation = models(0.0)
    result = register_model.run(
        params=PARAMS.model_dump(),
        metrics=tmp_path / "metrics.json",
        dataset=dataset.path,
        model=model,
        evaluation=evaluation,
        registration=tmp_path / "registration",
    )
    assert {
        "name": "insects",
        "version": 1,
        "alias": CHAMPION,
        "promoted": True,
        "reasons": [],
    }.items() <= result.items()
    assert result["run_id"] == pipeline_runs.pipeline_run_id(key)
    client = open_client()
    assert client.get_run(result["run_id"]).info.status == "FINISHED"
    written = read_json(tmp_path / "registration" / "registration.json")
    assert written["uri"] == "models:/insects/1"
    assert written["tags"]["params.digest"]
    loaded = load("models:/insects@champion")
    image = dataset.image(0)
    pd.testing.assert_frame_equal(loaded.predict([image]), load(model).predict([image]))


def test_the_step_is_a_plain_function(
    dataset: ImageDataset, models: Callable[[float], tuple[Path, Path]], store: Path, tmp_path: Path
) -> None:
    model, evaluation = models(0.0)
    params = PARAMS.model_copy(update={"promote": False})
    result = register_model(dataset.path, model, evaluation, tmp_path / "registration", params, SilentLog())
    assert result["alias"] == CHALLENGER
    assert result["reasons"] == ["register_model.promote is false"]
    assert result["run_id"] is None


def test_a_threshold_decides_where_it_is_asked_for(store: Path, tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "dataset", ("ant", "bee"), val=6)
    bundle = with_abstention(bundle_of(dataset), dataset)
    bundle.save(tmp_path / "model")
    evaluation = evaluated(dataset, bundle, tmp_path / "evaluation")
    test = dataset.indices("test")
    images = [dataset.image(int(row)) for row in test]
    wanted = bundle.predict(images)["ant"].to_numpy()
    chosen = ThresholdScore(
        positive="ant", goal="recall>=1", threshold=np.quantile(wanted, 0.25), reached=True, test={}
    )
    write_evaluation(evaluation, read_evaluation(evaluation).model_copy(update={"threshold": chosen}))
    expected = np.where(wanted >= chosen.threshold, "ant", "bee")

    params = PARAMS.model_copy(update={"decision": "threshold"})
    evidence = Evidence.read(evaluation, dataset)
    found = register(Registry.open(params.name), bundle, tmp_path / "model", evidence, params, {})
    assert found.difference < 1e-5
    assert found.version.tags["decision"] == f"ant from {chosen.threshold:.4f} on"
    with Registry.open(params.name).downloaded(found.version) as folder:
        assert check_packed_model(folder) < 1e-4
        served = PackedPredictor(folder).predict(images)
    assert list(served["label"]) == list(expected)
    of_label = [row[label] for row, label in zip(served["probabilities"], served["label"], strict=True)]
    assert list(served["confidence"]) == of_label
    assert min(of_label) < 0.5, "an answer by a threshold need not be the more probable one"
    assert all(row.abstain or row.label in row.set for row in served.itertuples())

    loaded = load(found.version.uri).predict(images)
    columns = ["label", "abstain"]
    pd.testing.assert_frame_equal(loaded[columns], served[columns], check_dtype=False)
    np.testing.assert_allclose(loaded["confidence"], served["confidence"], atol=1e-5)
    bare = load(tmp_path / "model").predict(images)
    assert list(bare["label"]) == list(np.where(bare["ant"] > 0.5, "ant", "bee")) != list(expected)

    batch = BatchModel.load(found.version.uri, tmp_path / "work")
    (tmp_path / "new").mkdir()
    for number, image in enumerate(images):
        (tmp_path / "new" / f"{number:03d}.png").write_bytes(image)
    result = predict_folder(batch, tmp_path / "new", tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert list(table["label"]) == list(expected)
    assert list(table["abstain"]) == list(served["abstain"])
    np.testing.assert_allclose(table["confidence"], served["confidence"], atol=1e-5)
    assert batch.reference is not None
    tested = (read_predictions(evaluation)["split"] == "test").to_numpy()
    assert list(batch.reference.answers[tested]) == list(result.seen.answers), "drift is measured by one rule"
    assert batch.digest != BatchModel.load(str(tmp_path / "model"), tmp_path / "work").digest


def test_a_threshold_for_three_classes_registers_nothing(
    registered: Callable[..., Registration],
) -> None:
    with pytest.raises(ParamsError, match=r"register_model\.decision='threshold': only two classes have one"):
        registered(params=PARAMS.model_copy(update={"decision": "threshold"}))
    assert Registry.open("insects").versions() == []
