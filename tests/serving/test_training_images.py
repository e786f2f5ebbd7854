"""The images that a version was trained on: known again by content or group, in any process."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from graft.data.dataset import ImageDataset
from graft.serving.training_images import TrainingImages
from tests.support.tiny import small_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    return small_dataset(tmp_path_factory.mktemp("data") / "dataset")


def test_all_but_the_test_images_are_known(dataset: ImageDataset, tmp_path: Path) -> None:
    seen = TrainingImages.of(dataset)
    seen.write(tmp_path)
    read = TrainingImages.read(tmp_path)
    assert read is not None
    np.testing.assert_array_equal(read.hashes, seen.hashes)
    np.testing.assert_array_equal(read.contain(dataset.table), dataset.table["split"] != "test")
    assert TrainingImages.read(tmp_path / "none") is None


def test_another_frame_of_a_known_video_is_known(dataset: ImageDataset) -> None:
    group = dataset.table["group"].to_numpy()[dataset.indices("train")[0]]
    new = pd.DataFrame({"id": ["f" * 64, "e" * 64], "group": [group, "another video"]})
    assert TrainingImages.of(dataset).contain(new).tolist() == [True, False]
