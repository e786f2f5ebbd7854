"""Artifacts keep their task, and those that are older than tasks had one label for each image."""

from pathlib import Path

import pytest

from graft.core.atomic import read_json, write_json
from graft.core.errors import DataError
from graft.data.dataset import ImageDataset
from graft.models.bundle import ModelBundle
from graft.serving.packaging import NETWORK, PackedPredictor
from graft.serving.server import SPEC_FILE, Classifier
from graft.tasks.kinds import parse_task, register
from graft.tasks.single_label import SingleLabel
from graft.tasks.task import Task
from tests.support.tasks import of_labels
from tests.support.tiny import bundle_of, small_dataset
from tests.support.two_flags import TwoFlags
from tests.support.unsealed import unsealed


def without_task(file: Path) -> None:
    content = read_json(unsealed(file.parent) / file.name)
    assert content.pop("task")["kind"] == "single_label"
    write_json(file, content)


@pytest.mark.parametrize("task", [of_labels("a", "b"), TwoFlags(name="look", labels=("red", "striped"))])
def test_a_task_comes_back_as_it_was_written(task: Task) -> None:
    assert parse_task(task.model_dump(mode="json"), ("other",)) == task


def test_artifacts_older_than_tasks_had_one_label_for_each_image(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "dataset")
    bundle = bundle_of(dataset)
    bundle.save(tmp_path / "model")
    for file in (tmp_path / "dataset/dataset.json", tmp_path / "model/bundle.json"):
        without_task(file)
    assert ImageDataset.read(tmp_path / "dataset").task == SingleLabel(labels=dataset.classes)
    old = ModelBundle.load(tmp_path / "model")
    assert old.task == bundle.task
    image = dataset.image(0)
    assert old.predict([image]).equals(bundle.predict([image]))


def test_a_model_packed_before_tasks_answers_the_same(packed_model: Path) -> None:
    network = packed_model / "artifacts" / NETWORK
    content = read_json(network / SPEC_FILE)
    kept = {name: value for name, value in content.items() if name != "task"}
    assert PackedPredictor(packed_model).task == of_labels(*content["labels"])
    assert Classifier.load(network).spec == type(Classifier.load(network).spec).model_validate(kept)


def test_an_unknown_kind_and_a_wrong_field_are_one_clear_line() -> None:
    with pytest.raises(
        DataError, match=r"^task of kind 'masks': this version of Graft knows single_label, tags, two_flags$"
    ):
        parse_task({"kind": "masks"}, ("a",))
    with pytest.raises(DataError, match=r"^task labels: Field required$"):
        parse_task({"kind": "single_label"}, ("a",))


def test_a_kind_without_a_name_cannot_be_registered() -> None:
    with pytest.raises(TypeError, match="Task: the field `kind` needs a default"):
        register(Task)
