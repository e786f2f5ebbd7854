"""Fixtures for the files here: a small model, and pictures of another camera that it mistakes."""

import pytest

from graft.adapt.target_images import TargetImages
from graft.models.bundle import ModelBundle
from tests.support.shifted import adaptable, write_target
from tests.support.tiny import small_dataset


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return adaptable(small_dataset(tmp_path_factory.mktemp("data") / "dataset"))


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> tuple[TargetImages, dict[str, str]]:
    """Pictures of another camera, and their classes, which only the tests know."""
    folder = tmp_path_factory.mktemp("target") / "night"
    labels = write_target(folder)
    return TargetImages.of(folder, sorted(labels)), labels
