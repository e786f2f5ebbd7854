"""What train_head and fine_tune keep for later updates."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.fine_tune.step import fine_tune
from components.train_head.step import train_head
from graft.continual.class_statistics import ClassStatistics
from graft.continual.history import History
from graft.continual.memory import MEMORY_FILE
from graft.continual.state import ContinualState, head_logits, right_answers, state_of_trained, why_no_memory
from graft.core.errors import ModelError
from graft.data.dataset import ImageDataset
from graft.models.bundle import ModelBundle
from graft.params.fine_tune import FineTuneParams
from graft.params.train_head import TrainHeadParams
from graft.runs.run_log import SilentLog
from tests.support.finished_run import FinishedRun


@pytest.fixture(scope="module")
def state(finished_run: FinishedRun) -> ContinualState:
    return ContinualState.load(finished_run.model)


def test_the_memory_is_of_training_and_validation_images(finished_run: FinishedRun, state: ContinualState) -> None:
    images, bundle = ImageDataset.read(finished_run.dataset), ModelBundle.load(finished_run.model)
    rows, reader = images.indices("train"), images.reader()
    rows = np.concatenate([rows, images.indices("val")])
    _, features = bundle.logits_and_features(reader[int(row)] for row in rows)
    wanted = ClassStatistics.of(features, [images.classes[target] for target in images.targets()[rows]])
    assert state.memory.statistics.labels == wanted.labels
    assert state.memory.statistics.counts.tolist() == wanted.counts.tolist()
    np.testing.assert_allclose(state.memory.statistics.means, wanted.means, atol=1e-3)
    assert state.memory.knows(images.table["id"].tolist()).tolist() == (images.table["split"] != "test").tolist()


def test_the_exam_is_of_validation_and_test_images(finished_run: FinishedRun, state: ContinualState) -> None:
    exam, bundle = state.exam, ModelBundle.load(finished_run.model)
    assert exam is not None
    assert (len(exam.validation), len(exam.tests)) == (90, 90)
    assert exam.answers.shape == (1, 180)
    answers = np.array(bundle.spec.labels)[head_logits(bundle, exam.tests.features).argmax(axis=1)]
    assert exam.tests.answers[0].tolist() == (answers == exam.tests.names).astype(int).tolist()


def test_the_history_begins_with_the_training(finished_run: FinishedRun, state: ContinualState) -> None:
    (first,) = state.history.experiences
    assert (first.name, first.images, first.test_images) == ("training", 270, 90)
    assert first.classes == {"ant": 90, "bee": 90, "cat": 90}
    assert first.digest == ImageDataset.read(finished_run.dataset).spec.digest


def test_a_frozen_model_keeps_the_memory_of_its_head(finished_run: FinishedRun, tmp_path: Path) -> None:
    params = FineTuneParams(enabled=False)
    fine_tune(finished_run.dataset, finished_run.features, finished_run.model, tmp_path / "model", params, SilentLog())
    before, after = ContinualState.load(finished_run.model), ContinualState.load(tmp_path / "model")
    assert before.exam is not None
    assert after.exam is not None
    np.testing.assert_array_equal(before.memory.statistics.scatter, after.memory.statistics.scatter)
    # It was refit: its answers are its own.
    bundle = ModelBundle.load(tmp_path / "model")
    assert after.exam.answers[0][after.exam.test].tolist() == right_answers(bundle, after.exam.tests).tolist()


def test_a_trained_backbone_gets_a_memory_of_its_own_features(finished_run: FinishedRun) -> None:
    images, bundle = ImageDataset.read(finished_run.dataset), ModelBundle.load(finished_run.model)
    before = ContinualState.load(finished_run.model)
    for tensor in bundle.backbone.parameters():
        tensor.data *= 1.01
    after = state_of_trained(bundle, images, before)
    assert after.memory.fingerprint == bundle.backbone.fingerprint() != before.memory.fingerprint
    assert after.memory.images.tolist() == before.memory.images.tolist()
    assert not np.allclose(after.memory.statistics.means, before.memory.statistics.means, rtol=1e-4)


def test_neither_is_kept_if_it_is_not_wanted(finished_run: FinishedRun, tmp_path: Path) -> None:
    store, log = finished_run.folder / "features", SilentLog()
    train_head(store, tmp_path / "no_exam", TrainHeadParams(head="linear", reuse_depth="last", exam=False), log)
    assert ContinualState.load(tmp_path / "no_exam").exam is None
    train_head(store, tmp_path / "none", TrainHeadParams(head="linear", reuse_depth="last", memory=False), log)
    assert not (tmp_path / "none" / MEMORY_FILE).exists()
    with pytest.raises(ModelError, match=r"train it again with train_head\.memory=true"):
        ContinualState.load(tmp_path / "none")
    with pytest.raises(ModelError, match="no history here"):
        History.load(tmp_path / "none")


def test_why_there_may_be_none(finished_run: FinishedRun) -> None:
    bundle = ModelBundle.load(finished_run.model)
    assert why_no_memory(bundle) == ""
    wide = bundle.spec.model_copy(update={"head": bundle.spec.head.model_copy(update={"features": 5000})})
    assert why_no_memory(replace(bundle, spec=wide)) == "the head reads 5,000 features, more than 4,096"
