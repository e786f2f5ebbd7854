"""What is promised about photographs: nuts and fruit from a COCO file, people cut out and numbered in masks."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from components.evaluate.step import evaluate
from components.extract_features.step import extract_features
from components.fine_tune.step import fine_tune
from components.train_head.step import train_head
from components.validate_data.step import validate_data
from graft.detectors.detector_bundle import DetectorBundle
from graft.params.evaluate import EvaluateParams
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.fine_tune import FineTuneParams
from graft.params.train_head import TrainHeadParams
from graft.params.validate_data import ValidateDataParams
from graft.runs.run_log import SilentLog

LOG = SilentLog()
MEASURED = EvaluateParams(bootstrap=300, random_init=False, learning_curve=False)


def learnt(raw: Path, work: Path, size: int, **values: object) -> tuple[dict, float]:
    """What `evaluate` says, and the CPU seconds that the heads learnt in."""
    params = ValidateDataParams.model_validate({"task": "instances", **values})
    validate_data(raw, work / "dataset", work / "page", params, LOG)
    extract_features(work / "dataset", work / "features", ExtractFeaturesParams(image_size=size), LOG)
    start = time.process_time()
    found = train_head(work / "features", work / "head", TrainHeadParams(), LOG)
    seconds = time.process_time() - start
    assert found["epochs"] <= 15
    fine_tune(work / "dataset", work / "features", work / "head", work / "model", FineTuneParams(), LOG)
    paths = [work / name for name in ("dataset", "features", "head", "model", "evaluation")]
    return evaluate(*paths, MEASURED, LOG), seconds


@pytest.mark.slow
def test_nuts_and_fruit_are_found_from_12_photos(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = {"val_fraction": 0.0, "test_fraction": 1 / 3, "severity": {"empty_split": "warn"}}
    found, seconds = learnt(shared / "data" / "nuts_coco", tmp_path, 256, **split)
    scores = {name: round(score["value"], 3) for name, score in found["test"].items()}
    with capsys.disabled():
        print(f"\nnuts_coco: {scores}, heads {seconds:.0f} CPU s")
    assert found["test"]["mask_ap50"]["value"] >= 0.80
    assert found["test"]["mask_ap"]["value"] >= 0.45


def pasted_people(folder: Path, shared: Path, count: int) -> Path:
    """Photos with people cut out of others, and masks that number them."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    backgrounds = sorted((shared / "data" / "hymenoptera").rglob("*.jpg"))
    source = shared / "data" / "human_seg"
    people = sorted((source / "Training_Images").iterdir(), key=lambda file: file.stem)
    for number in range(count):
        draws = np.random.default_rng(number)
        photo = Image.open(backgrounds[number]).convert("RGB").resize((192, 144))
        numbers = np.zeros((144, 192), np.uint8)
        for at in range(1, 1 + int(draws.integers(1, 4))):
            file = people[int(draws.integers(len(people)))]
            person = Image.open(file).convert("RGB")
            mask = Image.open(source / "Ground_Truth" / f"{file.stem}.png").convert("L").resize(person.size)
            box = mask.point(lambda value: 255 * (value > 127)).getbbox()
            if box is None:
                continue
            height = int(draws.integers(60, 110))
            width = min(120, max(20, round(height * (box[2] - box[0]) / (box[3] - box[1]))))
            person, mask = (one.crop(box).resize((width, height)) for one in (person, mask))
            x, y = int(draws.integers(0, 192 - width)), int(draws.integers(0, 144 - height))
            own = np.asarray(mask) > 127
            if not own.any():
                continue
            photo.paste(person, (x, y), Image.fromarray(own))
            numbers[y : y + height, x : x + width][own] = at
        photo.save(folder / "images" / f"{number:03d}.png")
        Image.fromarray(numbers).save(folder / "masks" / f"{number:03d}.png")
    return folder


@pytest.mark.slow
def test_people_numbered_in_masks_are_learnt_and_frozen_buffers_stay(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = pasted_people(tmp_path / "raw", shared, 48)
    severity = {"tiny_object": "warn"}  # who is nearly covered by another
    found, seconds = learnt(raw, tmp_path, 144, mask_values={0: "background", 1: "person"}, severity=severity)
    with capsys.disabled():
        print(f"\npasted people: mask AP50 {found['test']['mask_ap50']}, heads {seconds:.0f} CPU s")
    assert found["test"]["mask_ap50"]["value"] >= 0.35
    gain = found["gains"]["the same objects everywhere"]
    assert gain["low"] > 0
    from graft.backbones.backbone import load_backbone

    whole = load_backbone(tmp_path / "features" / "backbone")
    for folder in ("head", "model"):
        bundle = DetectorBundle.load(tmp_path / folder)
        groups = dict(zip(bundle.spec.backbone.groups, bundle.network.backbone.groups, strict=True))
        for name, group in zip(whole.spec.groups, whole.groups, strict=True):
            if name not in groups:
                continue
            theirs = dict(groups[name].named_buffers())
            for key, buffer in group.named_buffers():
                assert torch.equal(buffer, theirs[key]), f"{folder}: {name}.{key}"
