"""A model of one's own as the source of the next: its weights, groups and transform, and where they came from."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from components.extract_features.step import extract_features
from graft.backbones.backbone import load_backbone
from graft.backbones.feature_store import BACKBONE_FOLDER
from graft.backbones.own_model import model_folder, own_backbone
from graft.core.atomic import read_json, write_json
from graft.core.errors import ModelError
from graft.models.bundle import ModelBundle
from graft.params.extract_features import ExtractFeaturesParams
from graft.runs.run_log import SilentLog
from graft.serving.registry import Registry
from tests.support.pictures import picture
from tests.support.tiny import tuning_inputs

CACHE_OFF = {"backend": "torch", "batch_size": 4, "workers": 1}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModelBundle]:
    """An earlier project's model whose first group was trained further, and its folder."""
    work = tmp_path_factory.mktemp("earlier")
    bundle = ModelBundle.load(tuning_inputs(work) / "head")
    with torch.no_grad():
        next(bundle.classifier.backbone.parameters()).mul_(1.5)
    spec = bundle.spec.model_copy(update={"trained_groups": bundle.spec.backbone.groups})
    bundle = replace(bundle, spec=spec)
    bundle.save(work / "zoo")
    return work / "zoo", bundle


@pytest.fixture
def dataset(image_dataset: Callable[..., Path]) -> Path:
    return image_dataset([_png(number) for number in range(6)])


def _png(number: int) -> bytes:
    content = io.BytesIO()
    picture(number % 3, number).save(content, "PNG")
    return content.getvalue()


def _params(weights: object, architecture: str) -> ExtractFeaturesParams:
    return ExtractFeaturesParams(backbone=architecture, weights=str(weights), **CACHE_OFF)


def test_the_step_takes_the_backbone_of_a_model_with_its_transform(
    source: tuple[Path, ModelBundle], dataset: Path, tmp_path: Path
) -> None:
    folder, bundle = source
    own = bundle.spec.backbone
    metrics = extract_features(dataset, tmp_path / "features", _params(folder, own.architecture), SilentLog())
    found = load_backbone(tmp_path / "features" / BACKBONE_FOLDER)
    assert (found.spec.groups, found.spec.transform.size) == (own.groups, own.transform.size)
    for name, tensor in bundle.classifier.backbone.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor)
    assert metrics["weights"] == (
        f"model zoo ({len(bundle.spec.labels)} labels of dataset {bundle.spec.dataset_digest[:12]}, trained from "
        f"{own.groups[0]} up), from {own.weights.source}"
    )
    assert len(str(metrics["weights_sha256"])) == 64


def test_a_registered_model_is_fetched_by_its_alias(
    source: tuple[Path, ModelBundle], dataset: Path, store: Path, tmp_path: Path
) -> None:
    folder, bundle = source
    packed = tmp_path / "packed"
    (packed / "artifacts").mkdir(parents=True)
    bundle.save(packed / "artifacts" / "bundle")
    (packed / "MLmodel").write_text("flavors: {}\n")
    Registry.open("animals").register(packed, {})
    params = _params("models:/animals@challenger", bundle.spec.backbone.architecture)
    metrics = extract_features(dataset, tmp_path / "features", params, SilentLog())
    assert str(metrics["weights"]).startswith("model animals@challenger (")
    from_folder = extract_features(dataset, tmp_path / "again", _params(folder, params.backbone), SilentLog())
    assert metrics["weights_sha256"] == from_folder["weights_sha256"]


def test_clear_errors(source: tuple[Path, ModelBundle], dataset: Path, tmp_path: Path) -> None:
    folder, bundle = source
    name = bundle.spec.backbone.architecture
    with pytest.raises(ModelError, match=f"has another backbone; set extract_features.backbone={name}"):
        extract_features(dataset, tmp_path / "features", _params(folder, "resnet18"), SilentLog())
    with pytest.raises(ModelError, match=r"validate_data.channels=1: the model in .* takes 3 channels"):
        own_backbone(folder, name, 1)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert model_folder(str(empty)) is None
    with pytest.raises(ModelError, match=r"a folder without a model"):
        extract_features(dataset, tmp_path / "features", _params(empty, name), SilentLog())
    write_json(empty / "bundle.json", read_json(folder / "bundle.json"))
    (empty / "backbone.safetensors").write_bytes(b"?")
    with pytest.raises(ModelError, match=r"weights='.*empty': not a model"):
        extract_features(dataset, tmp_path / "features", _params(empty, name), SilentLog())
