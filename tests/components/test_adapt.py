"""The step adapt, and what evaluate and register_model make of its models."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from components.adapt.step import adapt
from components.register_model.step import register_model
from graft import load
from graft.core.digest import folder_digest
from graft.core.errors import ParamsError
from graft.data.dataset import ImageDataset
from graft.data.records import Record
from graft.data.target_rows import FOLDER, read_targets, write_targets
from graft.evaluation.domain_table import TEST, TRAINED, source_by_target
from graft.models.bundle import ModelBundle
from graft.models.domains import DOMAINS, adapted_models
from graft.params.adapt import AdaptParams
from graft.params.register_model import RegisterModelParams
from graft.reports.domain_section import with_domains
from graft.revision.domain_adaptation import adapt_to_folder
from graft.runs.run_log import SilentLog
from graft.serving.registry import CHALLENGER, Registry
from tests.support.shifted import adaptable, write_target
from tests.support.tiny import evaluated, small_dataset
from tests.support.unsealed import unsealed

LOG, PARAMS = SilentLog(), AdaptParams()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with two target domains, one of another camera; 18 of its images are labelled; and a trained model."""
    folder = tmp_path_factory.mktemp("trained")
    dataset = small_dataset(folder / "dataset")
    adaptable(dataset).save(folder / "tuned")
    records = []
    for domain, shifted in (("night & fog", True), ("day", False)):
        labels = write_target(folder / domain, shifted=shifted)
        known = set(sorted(labels)[::4]) if shifted else set()
        for name in sorted(labels):
            place = folder / domain / name
            label = labels[name] if name in known else ""
            records.append(Record(f"{domain}/{name}", str(place), label, domain=domain, target=True))
    write_targets(records, dataset)
    return folder


@pytest.fixture(scope="module")
def adapted(trained: Path) -> tuple[Path, dict[str, dict[str, object]]]:
    found = adapt(trained / "dataset", trained / "tuned", trained / "model", trained / "adaptation", PARAMS, LOG)
    return trained, dict(found["domains"])


def without_domains(model: Path, folder: Path) -> str:
    shutil.copytree(model, folder / "plain", ignore=shutil.ignore_patterns(DOMAINS))
    return folder_digest(folder / "plain")


def test_without_target_rows_the_model_is_handed_through_bit_by_bit(trained: Path, tmp_path: Path) -> None:
    plain = tmp_path / "dataset"
    shutil.copytree(trained / "dataset", plain, ignore=shutil.ignore_patterns(FOLDER))
    found = adapt(plain, trained / "tuned", tmp_path / "model", tmp_path / "adaptation", PARAMS, LOG)
    assert found == {"domains": {}}
    assert folder_digest(tmp_path / "model") == folder_digest(trained / "tuned")
    assert list((tmp_path / "adaptation").iterdir()) == []


def test_each_domain_is_adapted_to_or_left_alone_on_its_own(
    adapted: tuple[Path, dict[str, dict[str, object]]], tmp_path: Path
) -> None:
    folder, found = adapted
    assert list(found) == ["day", "night & fog"]
    assert (found["day"]["kept"], found["night & fog"]["kept"]) == (False, True)
    assert str(found["day"]["why"]).startswith("These images look like the training images")
    assert found["night & fog"]["images"] == 54
    assert found["night & fog"]["left_out"]["checked"] == 0  # type: ignore[index]
    assert found["night & fog"]["metrics"]["accuracy_difference"]["low"] > 0  # type: ignore[index]
    assert without_domains(folder / "model", tmp_path) == folder_digest(folder / "tuned")
    assert list(adapted_models(folder / "model")) == ["night-fog"]
    assert "no label was trained on" in (folder / "adaptation" / "night-fog" / "adaptation.html").read_text()
    assert "Images the model was trained on" in (folder / "adaptation" / "day" / "adaptation.html").read_text()


def test_labels_of_target_rows_change_no_weight(
    adapted: tuple[Path, dict[str, dict[str, object]]], tmp_path: Path
) -> None:
    """The labelled images decide whether the model is kept, and fit its temperature; nothing else."""
    folder, _ = adapted
    dataset = tmp_path / "dataset"
    unsealed(shutil.copytree(folder / "dataset", dataset))
    table = pd.read_parquet(dataset / FOLDER / "table.parquet")
    known = (table["label"] != "").to_numpy()
    table.loc[known, "label"] = table.loc[known, "label"].to_numpy()[::-1]
    table.to_parquet(dataset / FOLDER / "table.parquet")
    adapt(dataset, folder / "tuned", tmp_path / "model", tmp_path / "pages", PARAMS, LOG)
    first = adapted_models(folder / "model")["night-fog"]
    for name, place in adapted_models(tmp_path / "model").items():
        assert name == "night-fog"
        assert (place / "head.safetensors").read_bytes() == (first / "head.safetensors").read_bytes()


def test_without_any_label_of_the_target_the_weights_are_the_same(
    adapted: tuple[Path, dict[str, dict[str, object]]], tmp_path: Path
) -> None:
    folder, _ = adapted
    plain = shutil.copytree(folder / "dataset", tmp_path / "dataset", ignore=shutil.ignore_patterns(FOLDER))
    images = read_targets(folder / "dataset", "night & fog")[0].images
    night = images.table[(images.table["domain"] == "night & fog") & (images.table["label"] == "")]
    records = [Record(path, str(folder / path), "", domain="night & fog", target=True) for path in night["path"]]
    write_targets(records, ImageDataset.read(unsealed(plain)))
    found = adapt(plain, folder / "tuned", tmp_path / "model", tmp_path / "pages", PARAMS, LOG)
    assert found["domains"]["night & fog"]["guards"][-1]["name"] == "agreement_gain"
    first, second = (adapted_models(place)["night-fog"] for place in (folder / "model", tmp_path / "model"))
    files = sorted(file.name for file in first.glob("*.safetensors") if file.name != "trust.safetensors")
    assert {"head.safetensors", "second_head.safetensors", "second_norms.safetensors"} < set(files)
    for name in files:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_without_the_training_images_the_weights_are_the_same(
    adapted: tuple[Path, dict[str, dict[str, object]]], tmp_path: Path
) -> None:
    """`graft adapt` on the model and a folder ends where the step ended, which had the training images beside it."""
    folder, _ = adapted
    images = read_targets(folder / "dataset", "night & fog")[0].images.table
    night = images[images["domain"] == "night & fog"]
    check = tmp_path / "check.csv"
    night[night["label"] != ""][["path", "label"]].to_csv(check, index=False)
    target = tmp_path / "night & fog"
    shutil.copytree(folder / "night & fog", target / "night & fog")
    adapt_to_folder(str(folder / "tuned"), target, tmp_path / "out", PARAMS, LOG, check)
    first, second = adapted_models(folder / "model")["night-fog"], tmp_path / "out" / "model"
    for file in first.glob("*.safetensors"):
        assert file.read_bytes() == (second / file.name).read_bytes(), file.name


def test_one_domain_by_name(trained: Path, tmp_path: Path) -> None:
    only = AdaptParams(domain="day")
    found = adapt(trained / "dataset", trained / "tuned", tmp_path / "model", tmp_path / "pages", only, LOG)
    assert list(found["domains"]) == ["day"]
    wrong = AdaptParams(domain="dey")
    with pytest.raises(ParamsError, match="did you mean 'day'"):
        adapt(trained / "dataset", trained / "tuned", tmp_path / "other", tmp_path / "pages2", wrong, LOG)


def test_images_that_the_model_has_seen_are_counted(trained: Path, tmp_path: Path) -> None:
    plain = shutil.copytree(trained / "dataset", tmp_path / "dataset", ignore=shutil.ignore_patterns(FOLDER))
    dataset = ImageDataset.read(unsealed(plain))
    records = []
    for row in dataset.indices("train")[:60]:
        (tmp_path / f"{row}.png").write_bytes(dataset.image(int(row)))
        records.append(Record(f"{row}.png", str(tmp_path / f"{row}.png"), "", domain="night", target=True))
    write_targets(records, dataset)
    found = adapt(plain, trained / "tuned", tmp_path / "model", tmp_path / "pages", PARAMS, LOG)["domains"]["night"]
    assert not found["kept"]
    assert "60 are images that the model is learnt from or tested on" in found["why"]


def test_too_few_images_leave_the_model_alone_with_the_reason(trained: Path, tmp_path: Path) -> None:
    many = AdaptParams(min_images=60)
    found = adapt(trained / "dataset", trained / "tuned", tmp_path / "model", tmp_path / "pages", many, LOG)["domains"]
    assert "54 images, fewer than adapt.min_images=60" in found["night & fog"]["why"]
    assert folder_digest(tmp_path / "model") == folder_digest(trained / "tuned")


def test_the_report_shows_each_model_on_each_domain(adapted: tuple[Path, dict[str, dict[str, object]]]) -> None:
    folder, _ = adapted
    images, bundle = ImageDataset.read(folder / "dataset"), ModelBundle.load(folder / "model")
    rows = images.labelled("test")
    answers = bundle.probabilities(bundle.logits(images.image(int(row)) for row in rows))
    table = source_by_target(images, folder / "model", bundle, images.task.correct(answers, images.targets()[rows]))
    assert list(table) == [TRAINED, "adapted to night & fog"]
    assert list(table[TRAINED]) == [TEST, "night & fog"]
    before, after = table[TRAINED]["night & fog"], table["adapted to night & fog"]["night & fog"]
    assert before.images == after.images == 18
    assert before.value < 0.5 < 0.9 < after.value
    assert not after.estimated
    assert table[TRAINED][TEST].value > table["adapted to night & fog"][TEST].value
    page = with_domains("<main></main>", table)
    assert page.count("<tr>") == 3
    assert "adapted to night &amp; fog" in page
    assert with_domains("<main></main>", {}) == "<main></main>"


def test_an_adapted_model_becomes_a_challenger_for_its_domain(
    adapted: tuple[Path, dict[str, dict[str, object]]], store: Path, tmp_path: Path
) -> None:
    folder, _ = adapted
    images = ImageDataset.read(folder / "dataset")
    evaluation = evaluated(images, ModelBundle.load(folder / "model"), tmp_path / "evaluation")
    params = RegisterModelParams(name="insects", max_milliseconds=1e6)
    found = register_model(images.path, folder / "model", evaluation, tmp_path / "registration", params, LOG)
    assert (found["version"], found["alias"]) == (1, "champion")
    registry = Registry.open("insects")
    version, champion = registry.version(2), registry.champion()
    assert champion is not None
    assert champion.number == 1
    assert version.aliases == (CHALLENGER,)
    assert version.tags["domain"] == "night & fog"
    assert version.tags["adapted.from"] == "models:/insects/1"
    with registry.downloaded(champion) as packed:
        assert not list(packed.rglob(DOMAINS))
    answers = load("models:/insects/2").predict([folder / "night & fog" / "00000.png"])
    assert len(answers) == 1
    assert json.loads((tmp_path / "registration" / "registration.json").read_text())["version"] == 1
