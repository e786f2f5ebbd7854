"""Fixtures for all files here: a small dataset of images, and a trained head."""

import pytest

from graft.data.dataset import ImageDataset
from graft.models.bundle import ModelBundle
from tests.support.striped import linear_head, striped_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    return striped_dataset(tmp_path_factory.mktemp("data") / "dataset")


@pytest.fixture(scope="session")
def head(dataset: ImageDataset, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return linear_head(dataset, tmp_path_factory.mktemp("features") / "features")
