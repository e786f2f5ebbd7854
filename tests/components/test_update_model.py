"""An update as its steps run it: new images, a registered champion, the next version."""

import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.register_update.step import register_update
from components.update_model.step import update_model
from graft.continual.exam import EXAM_FILE
from graft.continual.memory import MEMORY_FILE
from graft.continual.state import ContinualState
from graft.core.errors import GraftError
from graft.data.dataset import ImageDataset, write_dataset
from graft.models.bundle import ModelBundle
from graft.params.register_model import RegisterModelParams
from graft.params.update_model import UpdateModelParams
from graft.revision.examination import NUMBERS, PAGE
from graft.runs.run_log import SilentLog
from graft.serving.registry import Registry
from graft.serving.training_images import TRAINING_IMAGES_FILE
from tests.support.finished_run import IMAGES, NAME, SIDE, FinishedRun
from tests.support.pictures import picture
from tests.support.unsealed import unsealed

CHAMPION = f"models:/{NAME}@champion"
LOG = SilentLog()


def new_images(folder: Path, labels: Sequence[str], per_class: int = 40, first: int = IMAGES) -> Path:
    """Pictures in the stripes of their class; 3 of 5 for training."""
    pictures = {"ant": 0, "bee": 1, "cat": 2, "dog": 3, "Ant": 0}
    rows, contents = [], []
    for label in labels:
        for number in range(per_class):
            content = io.BytesIO()
            picture(pictures[label], first + len(rows), SIDE).save(content, "PNG")
            contents.append(content.getvalue())
            split = ("train", "train", "train", "val", "test")[number % 5]
            rows.append({"path": f"{label}/{number}.png", "label": label, "split": split})
    table = pd.DataFrame(rows).assign(domain="", format="PNG", mode="RGB", width=SIDE, height=SIDE)
    table["id"] = [hashlib.sha256(content).hexdigest() for content in contents]
    table["group"], table["bytes"] = table["id"], [len(content) for content in contents]
    write_dataset(folder, table, contents, sorted(set(labels)))
    return folder


@pytest.fixture
def run(finished_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FinishedRun:
    """A registry of its own with the finished run's champion."""
    shutil.copy(finished_run.folder / "mlflow.db", tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return finished_run


def update(folder: Path, dataset: Path, model: object = CHAMPION, **params: object) -> dict[str, object]:
    settled = UpdateModelParams.model_validate({"model": str(model), **params})
    return dict(update_model(dataset, folder / "model", folder / "examination", settled, LOG))


def register(folder: Path, dataset: Path) -> dict[str, object]:
    params = RegisterModelParams(max_milliseconds=1e6, class_floor=0.0, max_ece=1.0)
    found = register_update(dataset, folder / "model", folder / "examination", folder / "registration", params, LOG)
    return dict(found)


def test_a_new_class_joins_the_champion(run: FinishedRun, tmp_path: Path) -> None:
    dataset = new_images(tmp_path / "new", ["dog", "ant"], per_class=60)
    found = update(tmp_path, dataset, tolerance=0.2)
    assert found["new_classes"] == ["dog"]
    assert found["experiences"] == ["training", "update 1"]
    matrix = found["continual"]["matrix"]  # type: ignore[index]
    assert matrix[0][0] > 0.9
    assert min(matrix[1]) > 0.85
    bundle, state = ModelBundle.load(tmp_path / "model"), ContinualState.load(tmp_path / "model")
    assert bundle.spec.labels == state.memory.statistics.labels == ("ant", "bee", "cat", "dog")
    assert bundle.moments is not None
    assert bundle.moments.counts.shape == (4,)
    images = ImageDataset.read(dataset)
    rows = images.indices("test")
    answers = bundle.predict([images.image(int(row)) for row in rows])
    assert (answers["label"] == images.table["label"].iloc[rows].to_numpy()).mean() > 0.85
    assert {"set", "abstain", "ood"} <= set(answers)
    page = (tmp_path / "examination" / PAGE).read_text()
    assert "What it has learnt, in order, and what it forgot" in page
    assert "<svg" in page

    registered = register(tmp_path, dataset)
    assert registered["reasons"] == []
    assert (registered["version"], registered["alias"], registered["replaced"]) == (2, "champion", 1)
    with pytest.raises(GraftError, match="all 120 images were learnt before"):
        update(tmp_path / "again", dataset)
    assert "Promoted: insects version 2" in (tmp_path / "registration" / PAGE).read_text()


def test_of_two_updates_at_once_the_second_stays_a_challenger(run: FinishedRun, tmp_path: Path) -> None:
    for name, label in (("one", "ant"), ("two", "bee")):
        (tmp_path / name).mkdir()
        first = IMAGES if name == "one" else 2 * IMAGES
        new_images(tmp_path / name / "new", [label, "cat"], per_class=60, first=first)
        update(tmp_path / name, tmp_path / name / "new", tolerance=0.2)
    assert register(tmp_path / "one", tmp_path / "one" / "new")["promoted"]
    second = register(tmp_path / "two", tmp_path / "two" / "new")
    assert not second["promoted"]
    assert second["reasons"] == [
        "version 2 is the champion, and this update began with version 1: update the champion with the same images, "
        "or promote by hand"
    ]
    assert Registry.open(NAME).version(3).aliases == ("challenger",)


def test_the_packed_evidence_knows_all_images_that_were_learnt(run: FinishedRun, tmp_path: Path) -> None:
    dataset = new_images(tmp_path / "new", ["ant", "bee"])
    update(tmp_path, dataset)
    hashes = np.load(tmp_path / "examination" / TRAINING_IMAGES_FILE)
    assert len(hashes) == 2 * (270 + 64)  # images, and as many groups
    assert json.loads((tmp_path / "examination" / NUMBERS).read_text())["base"]["version"] == 1


def test_naive_training_is_never_promoted(run: FinishedRun, tmp_path: Path) -> None:
    dataset = new_images(tmp_path / "new", ["dog", "ant"])
    assert update(tmp_path, dataset, method="naive")["method"] == "naive"
    (reason, *_) = register(tmp_path, dataset)["reasons"]  # type: ignore[misc]
    assert reason.startswith("method 'naive' exists for comparison")


def test_joint_fits_to_stored_features_and_wants_all_of_them(run: FinishedRun, tmp_path: Path) -> None:
    dataset, store = new_images(tmp_path / "new", ["dog", "ant"]), str(run.folder / "features")
    found = update(tmp_path / "one", dataset, run.model, features=[store])
    assert found["method"] == "joint"
    assert found["continual"]["acc"]["value"] > 0.9  # type: ignore[index]
    with pytest.raises(GraftError, match="270 of the 334 learnt images are not in these folders"):
        update(tmp_path / "two", dataset, run.model, method="joint")


def in_a_process(folder: Path, dataset: Path, model: Path) -> None:
    """Run the step as DVC does: a command of its own."""
    folder.mkdir()
    (folder / "params.yaml").write_text(json.dumps({"update_model": {"model": str(model)}}))
    subprocess.run(command(folder, dataset), check=True, capture_output=True)


def command(folder: Path, dataset: Path) -> list[str]:
    options = {"dataset": dataset, "model": folder / "model", "examination": folder / "examination"}
    options |= {"metrics": folder / "metrics.json", "params": folder / "params.yaml"}
    words = (word for name, value in options.items() for word in (f"--{name}", str(value)))
    return [sys.executable, "-m", "components.update_model.step", *words]


def five_updates(folder: Path) -> list[Path]:
    labels = [["dog"], ["ant", "bee"], ["cat", "dog"], ["bee"], ["ant", "dog"]]
    return [
        new_images(folder / f"new{number}", classes, per_class=10, first=1000 * number)
        for number, classes in enumerate(labels, start=1)
    ]


def test_any_order_of_updates_gives_the_same_model(run: FinishedRun, tmp_path: Path) -> None:
    ends, parts = [], five_updates(tmp_path)[:3]
    for order in (parts, parts[::-1]):
        model: object = run.model
        for number, part in enumerate(order):
            folder = tmp_path / f"{part.name}-{len(ends)}-{number}"
            update(folder, part, model)
            model = folder / "model"
        ends.append(ModelBundle.load(Path(str(model))))
    for name, tensor in ends[0].classifier.head.state_dict().items():
        np.testing.assert_allclose(tensor.numpy(), ends[1].classifier.head.state_dict()[name].numpy(), atol=1e-5)


@pytest.mark.slow
def test_five_updates_in_five_processes_equal_one_process(run: FinishedRun, tmp_path: Path) -> None:
    """The model, its memory and its exam are the same bytes; the history differs in nothing but the day."""
    ends: list[Path] = [run.model, run.model]
    for part in five_updates(tmp_path):
        here, there = tmp_path / f"{part.name}-here", tmp_path / f"{part.name}-there"
        update(here, part, ends[0])
        in_a_process(there, part, ends[1])
        ends = [here / "model", there / "model"]
    for file in ("head.safetensors", MEMORY_FILE, EXAM_FILE):
        assert (ends[0] / file).read_bytes() == (ends[1] / file).read_bytes(), file
    assert len(ContinualState.load(ends[1]).history.experiences) == 6


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        ("no memory", "the model has no memory"),
        ("damaged", "its checksum does not match"),
        ("channels", "the images have 1 channels, the model reads 3"),
        ("near name", "class 'Ant' is nearly the known class 'ant'"),
        ("known", "all 360 images were learnt before"),
    ],
)
def test_bad_input_is_one_line(finished_run: FinishedRun, tmp_path: Path, damage: str, line: str) -> None:
    model, dataset = tmp_path / "base", tmp_path / "new"
    shutil.copytree(finished_run.model, model)
    unsealed(model)
    if damage == "known":
        dataset = finished_run.dataset
    else:
        new_images(dataset, ["Ant" if damage == "near name" else "ant", "bee"], per_class=5)
    if damage == "no memory":
        (model / MEMORY_FILE).unlink()
    if damage == "damaged":
        content = bytearray((model / MEMORY_FILE).read_bytes())
        content[-20] ^= 255
        (model / MEMORY_FILE).write_bytes(content)
    if damage == "channels":
        spec = json.loads((unsealed(dataset) / "dataset.json").read_text())
        (dataset / "dataset.json").write_text(json.dumps(spec | {"channels": 1}))
    with pytest.raises(GraftError) as error:
        update(tmp_path / "out", dataset, model)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


KILLS = int(os.environ.get("GRAFT_KILLS", "6"))
"""How often an update is killed, evenly spread over its time; each takes as long as an update."""


@pytest.mark.slow
def test_a_killed_update_leaves_the_model_before_it(run: FinishedRun, tmp_path: Path) -> None:
    """Wherever it is killed, the output folder holds the model of before or of after; a rerun gives the latter."""
    dataset = new_images(tmp_path / "new", ["dog", "ant"])
    update(tmp_path / "undisturbed", dataset, run.model)
    wanted = (tmp_path / "undisturbed" / "model" / "head.safetensors").read_bytes()
    out = tmp_path / "model"
    shutil.copytree(run.model, out)
    before = (out / "head.safetensors").read_bytes()
    (tmp_path / "params.yaml").write_text(json.dumps({"update_model": {"model": str(run.model)}}))
    words = command(tmp_path, dataset)
    start = time.monotonic()
    subprocess.run(words, check=True, capture_output=True)
    whole = time.monotonic() - start
    shutil.rmtree(out)
    shutil.copytree(run.model, out)
    ended = 0
    for point in range(KILLS):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole * (point + random.Random(point).random()) / KILLS)
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = (out / "head.safetensors").read_bytes()
        ended += found == wanted
        assert found in (before, wanted)
        assert len(ModelBundle.load(out).spec.labels) in (3, 4)
    assert ended < KILLS
    subprocess.run(words, check=True, capture_output=True)
    assert (out / "head.safetensors").read_bytes() == wanted
