"""From drawn photos and a COCO file to a registered model that answers, through the steps themselves."""

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
from graft.core.errors import ModelError, ParamsError
from graft.dense.pixel_scores import read_scores
from graft.detectors.detector_bundle import DetectorBundle
from graft.detectors.instance_scores import InstanceEvaluation
from graft.detectors.photo_maps import PhotoMaps
from graft.objects.object_dataset import ObjectDataset
from graft.params.evaluate import EvaluateParams
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.fine_tune import FineTuneParams
from graft.params.register_model import RegisterModelParams
from graft.params.review_features import ReviewFeaturesParams
from graft.params.train_head import TrainHeadParams
from graft.params.validate_data import ValidateDataParams
from graft.pixel_serving.detector_server import instances
from graft.pixel_serving.pixel_export import export_pixels
from graft.pixel_serving.pixel_kinds import open_model
from graft.pixel_serving.pixel_packaging import PackedPixelPredictor
from graft.pixel_serving.pixel_prediction import predict_photos
from graft.pixel_serving.pixel_registration import check_packed_pixels
from graft.runs.run_log import SilentLog
from graft.serving.registry import Registry
from tests.support.drawn_objects import KINDS, write_coco
from tests.support.served_model import serving

LOG = SilentLog()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything up to the head, on small photos and in a few epochs."""
    work = tmp_path_factory.mktemp("instances")
    write_coco(work / "raw", 36)
    validated = ValidateDataParams.model_validate({"task": "instances", "val_fraction": 0.35, "test_fraction": 0.25})
    validate_data(work / "raw", work / "dataset", work / "page", validated, LOG)
    extract_features(work / "dataset", work / "features", ExtractFeaturesParams(image_size=96), LOG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graft.detectors.fit.epochs_for", lambda _: 6)
        train_head(work / "features", work / "head", TrainHeadParams(), LOG)
    return work


@pytest.fixture(scope="module")
def evaluated(trained: Path) -> Path:
    """A model without stages, measured."""
    places = (trained / name for name in ("dataset", "features", "head", "model"))
    fine_tune(*places, FineTuneParams(enabled=False), LOG)
    params = EvaluateParams(bootstrap=100, random_init=False, learning_curve=False)
    paths = [trained / name for name in ("dataset", "features", "head", "model", "evaluation")]
    evaluate(*paths, params, LOG)
    return trained


def test_the_maps_are_those_of_the_backbone_at_half_precision(trained: Path) -> None:
    store, bundle = PhotoMaps.read(trained / "features"), DetectorBundle.load(trained / "head")
    dataset = ObjectDataset.open(trained / "dataset")
    backbone = load_backbone(store.backbone_folder)
    from graft.detectors.photo_pixels import padded, prepared

    row = int(dataset.rows("train")[0])
    pixels, fit = prepared(dataset.photos[row], backbone.spec.transform)
    assert (fit.height, fit.width, *fit.padded) == (96, 128, 96, 128)
    for mirrored in (False, True):
        seen = padded(pixels.flip(-1) if mirrored else pixels, backbone.spec.transform, fit)
        with torch.inference_mode():
            maps = bundle.network.maps(seen[None])
        view = store.view(row, mirrored=mirrored)
        assert view.fit == fit
        for stored, found in zip(view.maps, maps, strict=True):
            assert (stored - found).abs().max() < 0.02


def test_objects_are_learnt_and_told_with_intervals_and_baselines(evaluated: Path) -> None:
    found, photos = read_scores(evaluated / "evaluation", InstanceEvaluation)
    ap50 = found.test["mask_ap50"]
    assert ap50.value is not None
    assert ap50.low is not None
    assert ap50.low < ap50.value
    assert ap50.value > 0.6
    gain = found.gains["the same objects everywhere"]
    assert gain.low is not None
    assert gain.low > 0
    assert found.baselines["no answer"].value == 0.0
    assert found.found + found.missed == sum(row.objects for row in found.per_class) == int(photos["objects"].sum())
    page = (evaluated / "evaluation" / "report.html").read_text()
    assert "data:image/jpeg;base64" in page
    assert "Mask AP50" in page
    assert "<b>Depth.</b>" in page
    figures = json.loads((evaluated / "evaluation" / "key_figures.json").read_text())
    assert figures["mask_ap50"] == ap50.value
    assert figures["photo_f1_of_no answer"] == 0.0


def test_pixels_belong_to_the_smaller_object_and_probes_tell_of_every_map(trained: Path) -> None:
    store, bundle = PhotoMaps.read(trained / "features"), DetectorBundle.load(trained / "head")
    assert [point.tap for point in bundle.spec.curve] == [level.group for level in store.levels]
    assert max(point.accuracy for point in bundle.spec.curve) > 0.8
    row = int(store.rows("train")[0])
    mask, (one, *_) = store.mask(row), sorted(store.objects[row], key=lambda one: one.code.area)
    left, top, width, height = (part * 96 / 72 for part in one.box)
    assert mask.shape == (96, 128)
    assert mask[round(top + height / 2), round(left + width / 2)] == one.label + 1
    assert set(np.unique(mask)) <= {0, *(one.label + 1 for one in store.objects[row])}


def test_answers_are_the_same_over_http_and_python(evaluated: Path, session_store: str) -> None:
    paths = [evaluated / name for name in ("dataset", "model", "evaluation", "registration")]
    params = RegisterModelParams(name="drawn-objects", max_milliseconds=60_000, max_ece=1.0, class_floor=0.0)
    result = register_model(*paths, params, LOG)
    assert result["promoted"], result["reasons"]
    champion = Registry.open("drawn-objects").champion()
    assert champion is not None
    assert champion.tags["task"] == "instances"
    dataset = ObjectDataset.open(evaluated / "dataset")
    with Registry.open("drawn-objects").downloaded(champion) as folder:
        assert check_packed_pixels(folder) < 0.002
        table = PackedPixelPredictor(folder).predict([dataset.photos[0]])
    (row,) = table.to_dict("records")
    assert (row["height"], row["width"]) == (72, 96)
    answered = instances(row)
    assert len(answered) == len(row["boxes"]) == len(row["scores"]) > 0
    assert {label for label, _ in answered} <= set(KINDS)
    assert json.loads(table.to_json(orient="records"))[0]["masks"] == [code.counts for _, code in answered]
    again: dict[str, Any] = dict(
        register_model(*paths[:3], evaluated / "second", params.model_copy(update={"tolerance": 0.0}), LOG)
    )
    assert again["promoted"], again["reasons"]  # the same model loses nothing against itself


@pytest.mark.slow
def test_a_server_answers_with_objects_over_http(evaluated: Path, session_store: str, tmp_path: Path) -> None:
    paths = [evaluated / name for name in ("dataset", "model", "evaluation")]
    params = RegisterModelParams(name="served-objects", max_milliseconds=60_000, max_ece=1.0, class_floor=0.0)
    assert register_model(*paths, tmp_path / "registration", params, LOG)["promoted"]
    dataset, bundle = ObjectDataset.open(evaluated / "dataset"), DetectorBundle.load(evaluated / "model")
    photo = dataset.photos[0]
    rows = [{"image": base64.b64encode(photo).decode()}]
    with serving("served-objects", tmp_path / "serve.log") as url:
        answer = requests.post(url, json={"dataframe_records": rows}, timeout=60)
        assert answer.status_code == 200, answer.text
        broken = requests.post(url, json={"dataframe_records": [*rows, {"image": rows[0]["image"][:80]}]}, timeout=60)
    (found,) = answer.json()["predictions"]
    (expected,) = bundle.answers([photo])
    kept = bundle.kept(expected)
    assert found["masks"] == [one.code.counts for one in kept]
    assert found["scores"] == pytest.approx([one.score for one in kept], abs=1e-4)
    assert (found["height"], found["width"]) == (72, 96)
    assert broken.status_code == 400
    assert "row 1: " in broken.json()["message"]


def test_a_folder_is_answered_with_overlays_a_table_and_a_coco_results_file(evaluated: Path, tmp_path: Path) -> None:
    write_coco(tmp_path / "new", 2, seed=7)
    (tmp_path / "new/images/broken.png").write_bytes(b"nothing")
    found = predict_photos(open_model(evaluated / "model"), tmp_path / "new/images", tmp_path / "out", LOG)
    assert (found["images"], found["errors"]) == (3, 1)
    assert (tmp_path / "out/overlays/001.jpg").is_file()
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert {one["image_id"] for one in results} <= {0, 1}
    assert {one["category_id"] for one in results} <= {1, 2}
    assert results[0]["segmentation"]["size"] == [72, 96]
    assert "broken.png" in (tmp_path / "out/predictions.csv").read_text()


def test_the_heads_learn_alone_and_the_same_again(trained: Path, tmp_path: Path) -> None:
    whole = load_backbone(trained / "features" / "backbone").state_dict()
    for name, tensor in DetectorBundle.load(trained / "head").network.backbone.state_dict().items():
        assert torch.equal(tensor, whole[name]), name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graft.detectors.fit.epochs_for", lambda _: 1)
        losses = [
            train_head(trained / "features", tmp_path / name, TrainHeadParams(), LOG)["train_loss"] for name in "ab"
        ]
    assert losses[0] == losses[1]
    for file in ("heads.safetensors", "bundle.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_where_it_stopped(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graft.detectors import fit, training

    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    write = training.Checkpoint.write
    monkeypatch.setattr(training.Checkpoint, "write", lambda self, state: write(self, state, due=True))
    monkeypatch.setattr(fit, "epochs_for", lambda _: 2)
    expected = train_head(trained / "features", tmp_path / "whole", TrainHeadParams(), LOG)
    steps = []

    class KilledError(Exception):
        pass

    original = training.EpochState.tensors

    def killed(self: Any, losses: Any) -> Any:
        steps.append(len(losses))
        return original(self, losses)

    monkeypatch.setattr(training.EpochState, "tensors", killed)
    real = torch.optim.AdamW.step

    def stop(self: Any, *args: Any, **more: Any) -> Any:
        if steps:  # in the second epoch
            raise KilledError
        return real(self, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", stop)
        with pytest.raises(KilledError):
            train_head(trained / "features", tmp_path / "killed", TrainHeadParams(), LOG)
    assert steps == [1]
    found = train_head(trained / "features", tmp_path / "resumed", TrainHeadParams(), LOG)
    assert steps == [1, 2]  # the first epoch was not trained again
    assert found["train_loss"] == expected["train_loss"]
    a, b = (tmp_path / name / "heads.safetensors" for name in ("whole", "resumed"))
    assert a.read_bytes() == b.read_bytes()


def test_a_stage_keeps_frozen_groups_bit_identical_and_is_rolled_back_without_gain(
    trained: Path, tmp_path: Path
) -> None:
    before = DetectorBundle.load(trained / "head")
    params = FineTuneParams(strategy="upper", depth="blocks.6", epochs=1, lr=1e-3)
    result = fine_tune(trained / "dataset", trained / "features", trained / "head", tmp_path / "model", params, LOG)
    assert result["trained_groups"] == ["blocks.6"]
    after = DetectorBundle.load(tmp_path / "model")
    old, new = before.network.backbone.state_dict(), after.network.backbone.state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed
    groups = before.spec.backbone.groups
    assert {name.split(".")[1] for name in changed} == {str(groups.index("blocks.6"))}
    assert not any("running" in name or "num_batches" in name for name in changed)
    useless = FineTuneParams(epochs=1, lr=1e-9)
    kept = fine_tune(trained / "dataset", trained / "features", trained / "head", tmp_path / "useless", useless, LOG)
    assert kept["trained_groups"] == []
    assert "rolled back" in kept["stages"][0]["reason"]


def test_a_review_lists_training_photos_worst_first(trained: Path, tmp_path: Path) -> None:
    paths = (trained / "dataset", trained / "features", trained / "head", tmp_path / "review")
    review_features(*paths, ReviewFeaturesParams(), LOG)
    lines = (tmp_path / "review/masks.csv").read_text().splitlines()
    scores = [float(line.split(",")[1]) for line in lines[1:]]
    assert scores == sorted(scores)
    assert len(scores) == len(ObjectDataset.open(trained / "dataset").rows("train"))


def test_what_objects_do_not_have_is_refused_in_one_line(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"train_head\.head='mlp': task instances has no such choice"):
        train_head(trained / "features", tmp_path / "head", TrainHeadParams(head="mlp"), LOG)
    params = FineTuneParams(augment="strong")
    with pytest.raises(ParamsError, match=r"fine_tune\.augment='strong': task instances has auto"):
        fine_tune(trained / "dataset", trained / "features", trained / "head", tmp_path / "model", params, LOG)
    with pytest.raises(ModelError, match=r"not exported, because .* proposals have no fixed number"):
        list(export_pixels(trained / "head", tmp_path))


def test_boxes_and_masks_of_the_answers_belong_together(trained: Path) -> None:
    bundle, dataset = DetectorBundle.load(trained / "head"), ObjectDataset.open(trained / "dataset")
    (answer,) = bundle.answers([dataset.photos[0]])
    for one in bundle.kept(answer):
        left, top, width, height = one.code.box
        assert np.abs(np.array(one.box) - [left, top, width, height]).max() < 6
