"""`make adapt`: from a registered model and a folder to a challenger and a page, or to the model as it was."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

import pipelines.adapt_folder
import pipelines.console.predicting
from graft import load
from graft.adapt.target_images import TargetImages
from graft.core.digest import folder_digest
from graft.core.errors import DataError, RegistryError
from graft.data.dataset import ImageDataset
from graft.models.bundle import ModelBundle
from graft.params.adapt import AdaptParams
from graft.params.register_model import RegisterModelParams
from graft.revision.domain_adaptation import _usable, adapt_to_folder
from graft.runs.run_log import SilentLog
from graft.serving.evidence import Evidence
from graft.serving.registration import check_packed_model, register
from graft.serving.registry import CHALLENGER, Registry
from graft.serving.training_images import TrainingImages
from tests.support.browser import browser
from tests.support.shifted import adaptable, write_target
from tests.support.tiny import evaluated, small_dataset

PARAMS = AdaptParams()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageDataset, Path, Path]:
    folder = tmp_path_factory.mktemp("trained")
    dataset = small_dataset(folder / "dataset")
    bundle = adaptable(dataset)
    bundle.save(folder / "model")
    return dataset, folder / "model", evaluated(dataset, bundle, folder / "evaluation")


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("target") / "night"
    return folder, write_target(folder)


def _run(command: Callable[..., None], *options: str) -> str:
    app = typer.Typer()
    app.command()(command)
    found = CliRunner().invoke(app, options)
    assert found.exit_code == 0, found.output
    return found.output


def test_a_registered_model_gets_a_challenger_for_the_domain(
    trained: tuple[ImageDataset, Path, Path], night: tuple[Path, dict[str, str]], store: Path, tmp_path: Path
) -> None:
    dataset, model, evaluation = trained
    folder, labels = night
    params = RegisterModelParams(name="insects", max_milliseconds=60_000)
    registry = Registry.open("insects")
    register(registry, ModelBundle.load(model), model, Evidence.read(evaluation, dataset), params, {})
    target = tmp_path / "night"
    shutil.copytree(folder, target)
    shutil.copy(target / sorted(labels)[0], target / "copy.png")
    (target / "broken.jpg").write_bytes(b"no image")
    predicted = _run(
        pipelines.console.predicting.predict,
        str(target),
        "--model",
        "models:/insects@champion",
        "--out",
        str(tmp_path / "p"),
    )
    assert f"graft adapt {target} adapts the model" in predicted
    out = tmp_path / "out"
    chosen = ["--data", str(target), "--model", "models:/insects@champion", "--out", str(out)]
    assert "Adapted: Two views agree on" in _run(pipelines.adapt_folder.main, *chosen)
    summary = json.loads((out / "summary.json").read_text())["adaptation"]
    assert summary["kept"]
    assert summary["source"] == "models:/insects/1"
    assert summary["left_out"]["copies"] == 1
    assert summary["unreadable"] == 1
    assert summary["images"] == len(labels)
    assert summary["estimated_accuracy"]["value"] > 0.9
    assert min(summary["milliseconds"].values()) > 0
    version = registry.version(2)
    assert version.aliases == (CHALLENGER,)
    assert version.tags["domain"] == "night"
    assert version.tags["adapted.from"] == "models:/insects/1"
    # it answers from the registry, as from its folder, and may be promoted by hand
    served, images = load("models:/insects/2"), [target / name for name in sorted(labels)]
    answers = served.predict(images)
    assert (answers["label"] == [labels[image.name] for image in images]).mean() > 0.95
    assert "abstain" not in answers.columns
    registry.promote(2, check_packed_model)
    with browser(tmp_path / "profile") as chromium:
        chromium.open(out / "adaptation.html")
        assert chromium.complaints == []
        assert chromium.violations() == []
        assert [url for url in chromium.requests if not url.startswith(("file:", "data:"))] == []
        assert chromium.run("document.querySelector('h1').textContent").startswith("Adapted to night")
        assert chromium.run("document.querySelectorAll('svg.figure').length") == 2
        assert chromium.run("document.querySelectorAll('.gallery img').length") > 5
        assert "scores are withheld" in chromium.run("document.body.textContent")
        assert chromium.run("document.querySelector('tbody tr').textContent.includes('≥ 50')")
        assert chromium.run("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_model_that_is_left_alone_is_handed_through_byte_for_byte(
    trained: tuple[ImageDataset, Path, Path], tmp_path: Path
) -> None:
    dataset, model, _ = trained
    write_target(tmp_path / "day", shifted=False)
    place = tmp_path / "run" / "steps" / "1" / "validate-data" / "dataset"
    shutil.copytree(dataset.path, place)
    out = tmp_path / "out"
    found = adapt_to_folder(str(model), tmp_path / "day", out, PARAMS, SilentLog(), run=tmp_path / "run")["adaptation"]
    assert not found["kept"]
    assert found["version"] is None
    assert folder_digest(out / "model") == folder_digest(model)
    page = (out / "adaptation.html").read_text()
    assert "look like the training images" in page
    assert "<h3>Images the model was trained on</h3>" in page
    assert page.count("<li><img") == 16
    # those of another run are not shown
    shutil.rmtree(place)
    small_dataset(place, classes=("ant", "bee"))
    adapt_to_folder(str(model), tmp_path / "day", tmp_path / "other", PARAMS, SilentLog(), run=tmp_path / "run")
    assert "<h3>Images the model was trained on</h3>" not in (tmp_path / "other" / "adaptation.html").read_text()


def test_labelled_images_are_not_adapted_to_and_show_the_gain(
    trained: tuple[ImageDataset, Path, Path], night: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    _, model, _ = trained
    folder, labels = night
    known = sorted(labels)[::4]
    check = tmp_path / "check.csv"
    check.write_text("path,label\n" + "".join(f"{name},{labels[name]}\n" for name in known))
    found = adapt_to_folder(str(model), folder, tmp_path / "out", PARAMS, SilentLog(), check)["adaptation"]
    assert found["kept"]
    assert found["images"] == len(labels) - len(known)
    assert found["left_out"]["checked"] == len(known)
    assert found["metrics"]["accuracy"]["value"] > 0.9 > found["metrics"]["accuracy_before"]["value"]
    assert found["metrics"]["accuracy_difference"]["low"] > 0
    assert {"set", "abstain"} <= set(load(tmp_path / "out" / "model").predict([folder / known[0]]).columns)
    assert "were fitted anew on 18 labelled images" in (tmp_path / "out" / "adaptation.html").read_text()


def test_a_class_of_the_training_images_alone_is_named(
    trained: tuple[ImageDataset, Path, Path], night: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    _, model, _ = trained
    folder, labels = night
    (tmp_path / "night").mkdir()
    for name in (name for name, label in labels.items() if label != "cat"):
        shutil.copy(folder / name, tmp_path / "night")
    wide = AdaptParams(min_images=20, class_gap=1.0)
    found = adapt_to_folder(str(model), tmp_path / "night", tmp_path / "out", wide, SilentLog())["adaptation"]
    assert found["images"] == 48
    assert "Hardly any image seems to be of cat." in (tmp_path / "out" / "adaptation.html").read_text()
    assert set(load(tmp_path / "out" / "model").spec.labels) == set(labels.values())  # it still knows the class


def test_bad_input_is_one_clear_line(
    trained: tuple[ImageDataset, Path, Path], night: tuple[Path, dict[str, str]], store: Path, tmp_path: Path
) -> None:
    _, model, _ = trained
    folder, labels = night
    with pytest.raises(DataError, match="no such folder of images"):
        adapt_to_folder(str(model), tmp_path / "none", tmp_path / "out", PARAMS, SilentLog())
    with pytest.raises(RegistryError, match="has no version with alias 'champion'"):
        adapt_to_folder("models:/none@champion", folder, tmp_path / "out", PARAMS, SilentLog())
    every = tmp_path / "every.csv"
    every.write_text("path,label\n" + "".join(f"{name},{label}\n" for name, label in labels.items()))
    with pytest.raises(DataError, match=r"no image to adapt to: of 72 different ones .* 72 are in the check file"):
        adapt_to_folder(str(model), folder, tmp_path / "out", PARAMS, SilentLog(), every)
    assert not (tmp_path / "out").exists()


def test_training_images_are_counted_and_left_out(night: tuple[Path, dict[str, str]]) -> None:
    folder, labels = night
    images = TargetImages.of(folder, sorted(labels))
    trained = pd.DataFrame({"id": images.ids[:5], "group": images.ids[:5]})
    seen = TrainingImages.of_rows(trained)
    usable, left_out = _usable(images, seen, None)
    assert left_out.trained == 5
    assert usable.files == images.files[5:]
