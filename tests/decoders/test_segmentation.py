"""From drawn photos and masks to a registered model that answers, through the steps themselves."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import torch

from components.evaluate.step import evaluate
from components.extract_features.step import extract_features
from components.fine_tune.step import fine_tune
from components.register_model.step import register_model
from components.review_features.step import review_features
from components.train_head.step import train_head
from components.validate_data.step import validate_data
from graft.backbones.backbone import load_backbone
from graft.core.errors import ParamsError
from graft.decoders.dense_maps import MapStore
from graft.decoders.mask_bundle import MaskBundle
from graft.decoders.mask_scores import MaskEvaluation
from graft.dense.pixel_scores import read_scores
from graft.masks.dataset import MaskDataset
from graft.masks.mask_file import read_mask
from graft.params.evaluate import EvaluateParams
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.fine_tune import FineTuneParams
from graft.params.register_model import RegisterModelParams
from graft.params.review_features import ReviewFeaturesParams
from graft.params.train_head import TrainHeadParams
from graft.params.validate_data import ValidateDataParams
from graft.pixel_serving.pixel_export import export_pixels
from graft.pixel_serving.pixel_kinds import open_model
from graft.pixel_serving.pixel_prediction import predict_photos
from graft.pixel_serving.pixel_registration import check_packed_pixels
from graft.runs.run_log import SilentLog
from graft.serving.registry import Registry
from tests.support.drawn_masks import NAMES, write_pairs
from tests.support.served_model import serving

LOG = SilentLog()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything up to the head."""
    work = tmp_path_factory.mktemp("segment")
    write_pairs(work / "raw", 60, (64, 48))
    validated = ValidateDataParams.model_validate({"task": "segment", "mask_values": NAMES, "val_fraction": 0.3})
    validate_data(work / "raw", work / "dataset", work / "page", validated, LOG)
    extract_features(work / "dataset", work / "features", ExtractFeaturesParams(image_size=64), LOG)
    train_head(work / "features", work / "head", TrainHeadParams(reuse_depth="blocks.2"), LOG)
    return work


@pytest.fixture(scope="module")
def evaluated(trained: Path) -> Path:
    """A model without stages, measured."""
    places = (trained / name for name in ("dataset", "features", "head", "model"))
    fine_tune(*places, FineTuneParams(enabled=False), LOG)
    params = EvaluateParams(bootstrap=200, random_init=False, learning_curve=False)
    paths = [trained / name for name in ("dataset", "features", "head", "model", "evaluation")]
    evaluate(*paths, params, LOG)
    return trained


def test_the_maps_are_those_of_the_backbone_at_half_precision(trained: Path) -> None:
    store, dataset = MapStore.read(trained / "features"), MaskDataset.read(trained / "dataset", "segment")
    assert [level.side for level in store.spec.levels] == [16, 8, 4, 2]
    backbone = load_backbone(store.backbone_folder)
    from graft.dense.levels import Trunk
    from graft.imaging.letterbox import letterbox

    square, box = letterbox(dataset.photos[5], backbone.spec.transform)
    assert (box.height, box.width) == (48, 64)
    with torch.inference_mode():
        maps = Trunk(backbone, tuple(level.group for level in store.spec.levels))(
            backbone.spec.transform.normalise(square[None])
        )
    for stored, found in zip(store.maps, maps, strict=True):
        assert np.abs(stored[5] - found[0].numpy()).max() < 0.02
    assert (store.mask(5)[48:] == 255).all()


def test_shapes_are_learnt_and_told_with_intervals_and_baselines(evaluated: Path) -> None:
    found, photos = read_scores(evaluated / "evaluation", MaskEvaluation)
    score = found.test["mean_iou"]
    assert score.value is not None
    assert score.value > 0.7
    assert score.low is not None
    assert score.low < score.value
    assert found.gains["mean mask"].low is not None
    assert found.gains["mean mask"].low > 0
    assert found.baselines["all background"].value == 0.0
    assert len(photos) == found.photos["test"]
    page = (evaluated / "evaluation" / "report.html").read_text()
    assert "data:image/jpeg;base64" in page
    assert "triangle" in page
    figures = json.loads((evaluated / "evaluation" / "key_figures.json").read_text())
    assert figures["mean_iou"] == score.value
    assert figures["test_photos"] == len(photos)


def test_answers_have_the_photos_own_size_and_are_the_same_over_http_and_python(
    evaluated: Path, session_store: str
) -> None:
    paths = [evaluated / name for name in ("dataset", "model", "evaluation", "registration")]
    params = RegisterModelParams(name="shapes", max_milliseconds=60_000)
    result = register_model(*paths, params, LOG)
    assert result["promoted"], result["reasons"]
    registry = Registry.open("shapes")
    champion = registry.champion()
    assert champion is not None
    assert champion.tags["task"] == "segment"
    with registry.downloaded(champion) as folder:
        assert check_packed_pixels(folder) < 0.002
        from graft.pixel_serving.pixel_packaging import PackedPixelPredictor

        dataset = MaskDataset.read(evaluated / "dataset", "segment")
        table = PackedPixelPredictor(folder).predict([dataset.photos[0]])
    mask = read_mask(base64.b64decode(table["mask"].iloc[0])).values
    assert mask.shape == (48, 64)
    assert sum(table["share"].iloc[0].values()) == pytest.approx(1.0)
    again: dict[str, Any] = dict(
        register_model(*paths[:3], evaluated / "second", params.model_copy(update={"tolerance": 0.0}), LOG)
    )
    assert again["promoted"], again["reasons"]  # the same model loses nothing against itself


@pytest.mark.slow
def test_a_server_answers_with_a_mask_over_http(evaluated: Path, session_store: str, tmp_path: Path) -> None:
    paths = [evaluated / name for name in ("dataset", "model", "evaluation")]
    params = RegisterModelParams(name="served-shapes", max_milliseconds=60_000)
    assert register_model(*paths, tmp_path / "registration", params, LOG)["promoted"]
    photo = MaskDataset.read(evaluated / "dataset", "segment").photos[0]
    rows = [{"image": base64.b64encode(photo).decode()}]
    with serving("served-shapes", tmp_path / "serve.log") as url:
        answer = requests.post(url, json={"dataframe_records": rows}, timeout=60)
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["predictions"]
    (expected,) = MaskBundle.load(evaluated / "model").answers([photo])
    mask = read_mask(base64.b64decode(found["mask"])).values
    assert (mask != expected.mask).mean() < 0.002
    assert found["predicted_iou"] == pytest.approx(expected.predicted_iou, abs=1e-3)


def test_a_folder_is_answered_with_masks_overlays_and_a_table(evaluated: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path / "new", 2, seed=7)
    (tmp_path / "new/images/broken.png").write_bytes(b"nothing")
    found = predict_photos(open_model(evaluated / "model"), tmp_path / "new/images", tmp_path / "out", LOG)
    assert (found["images"], found["errors"]) == (3, 1)
    assert read_mask((tmp_path / "out/masks/000.png").read_bytes()).values.shape == (72, 96)
    assert (tmp_path / "out/overlays/001.jpg").is_file()
    assert "broken.png" in (tmp_path / "out/predictions.csv").read_text()


def test_a_stage_keeps_frozen_groups_bit_identical_and_is_rolled_back_without_gain(
    trained: Path, tmp_path: Path
) -> None:
    before = MaskBundle.load(trained / "head")
    params = FineTuneParams(strategy="upper", depth="blocks.2", epochs=1, lr=1e-3)
    result = fine_tune(trained / "dataset", trained / "features", trained / "head", tmp_path / "model", params, LOG)
    assert result["trained_groups"] == ["blocks.2"]
    after = MaskBundle.load(tmp_path / "model")
    old, new = before.network.backbone.state_dict(), after.network.backbone.state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed
    groups = before.spec.backbone.groups
    assert {name.split(".")[1] for name in changed} == {str(groups.index("blocks.2"))}
    assert not any("running" in name or "num_batches" in name for name in changed)
    again = fine_tune(trained / "dataset", trained / "features", trained / "head", tmp_path / "again", params, LOG)
    assert again["stages"][0]["train_loss"] == result["stages"][0]["train_loss"]
    useless = FineTuneParams(depth="blocks.2", epochs=1, lr=1e-9)
    kept = fine_tune(trained / "dataset", trained / "features", trained / "head", tmp_path / "useless", useless, LOG)
    assert kept["trained_groups"] == []
    assert "rolled back" in kept["stages"][0]["reason"]


def test_a_review_lists_training_masks_worst_first(trained: Path, tmp_path: Path) -> None:
    paths = (trained / "dataset", trained / "features", trained / "head", tmp_path / "review")
    review_features(*paths, ReviewFeaturesParams(), LOG)
    lines = (tmp_path / "review/masks.csv").read_text().splitlines()
    scores = [float(line.split(",")[1]) for line in lines[1:]]
    assert scores == sorted(scores)
    assert len(scores) == len(MaskDataset.read(trained / "dataset", "segment").rows("train"))


def test_a_parameter_without_meaning_for_masks_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"train_head\.head='mlp': task segment has no such choice"):
        train_head(trained / "features", tmp_path / "head", TrainHeadParams(head="mlp"), LOG)
    params = FineTuneParams(wise_ft=False)
    with pytest.raises(ParamsError, match=r"fine_tune\.wise_ft=False: task segment"):
        fine_tune(trained / "dataset", trained / "features", trained / "head", tmp_path / "model", params, LOG)


@pytest.mark.slow
def test_the_export_computes_the_same(evaluated: Path, tmp_path: Path) -> None:
    lines = list(export_pixels(evaluated / "model", tmp_path))
    assert len(lines) == 2
    assert (tmp_path / "model.onnx").is_file()
