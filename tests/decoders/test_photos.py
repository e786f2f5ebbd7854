"""What is promised about photographs: people in photos, three shapes on photos, and few masks."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.pixels import PEOPLE, people
from graft.decoders.assessment import predicted
from graft.decoders.dense_maps import extract_maps
from graft.decoders.fit import train_decoder
from graft.decoders.mask_bundle import MaskBundle
from graft.decoders.training import DecoderSettings, epochs_for, fit_decoder
from graft.masks.dataset import MaskDataset
from graft.masks.scores import mean_interval
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.train_head import TrainHeadParams
from graft.params.validate_data import ValidateDataParams
from graft.pixel_quality.mask_validation import MaskValidation, validate_masks
from graft.runs.run_log import SilentLog
from tests.support.drawn_masks import NAMES, shapes


def checked(folder: Path, **params: object) -> MaskValidation:
    return validate_masks(folder, ValidateDataParams.model_validate(params))


@pytest.mark.slow
def test_resized_masks_are_told_once_and_one_of_another_shape_fails(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "human_seg"
    for name in ("Training_Images", "Ground_Truth"):
        shutil.copytree(source / name, tmp_path / name)
    found = checked(source, task="segment")
    (resized,) = [one for one in found.findings if one.kind == "mask_resized"]
    assert resized.count == 198
    assert found.verdict != "fail"
    mask = Image.open(source / "Ground_Truth" / "7.png")
    (tmp_path / "Ground_Truth" / "7.png").unlink()
    mask.resize((mask.width, round(mask.height * 1.05))).save(tmp_path / "Ground_Truth" / "7.png")
    damaged = checked(tmp_path, task="segment")
    (wrong,) = [one for one in damaged.findings if one.kind == "mask_size"]
    assert damaged.verdict == "fail"
    assert "/7." in wrong.files[0]


@pytest.mark.slow
def test_people_are_found_from_190_and_from_20_masks(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    dataset = checked(people(shared / "data" / "human_seg", folder), **PEOPLE).write(tmp_path / "dataset")
    store = extract_maps(tmp_path / "features", dataset, ExtractFeaturesParams()).store
    assert store.bytes_per_photo() <= 300 * 1024
    start = time.process_time()
    train_decoder(tmp_path / "features", tmp_path / "head", TrainHeadParams(), SilentLog())
    seconds = time.process_time() - start
    bundle = MaskBundle.load(tmp_path / "head")
    rows = dataset.rows("test")
    found = predicted(bundle, dataset, rows, "test").photos["mean_iou"].to_numpy()
    interval = mean_interval(found, dataset.groups[rows], 1000, 0.95, 0)
    train = np.random.default_rng(0).permutation(dataset.rows("train"))[:20]
    levels = range(len(bundle.spec.levels))
    bundle.network.decoder = fit_decoder(store, levels, train, DecoderSettings(epochs_for(20)))
    few = predicted(bundle, dataset, rows, "test").photos["mean_iou"].mean()
    with capsys.disabled():
        print(
            f"\nhuman_seg: mean IoU {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}], 20 masks "
            f"{few:.3f}, decoder {seconds:.0f} CPU s, {store.bytes_per_photo() / 1024:.0f} KiB a photo"
        )
    assert interval.value >= 0.78
    assert interval.low > 0.70
    assert few >= 0.68


@pytest.mark.slow
def test_three_shapes_on_photos_are_told_apart(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = sorted((shared / "data" / "hymenoptera").rglob("*.jpg"))[:150]
    for folder in ("images", "masks"):
        (tmp_path / "raw" / folder).mkdir(parents=True)
    for number, file in enumerate(photos):
        photo, mask = shapes(Image.open(file).convert("RGB").resize((192, 160)), number)
        photo.save(tmp_path / "raw" / "images" / f"{number}.png")
        mask.save(tmp_path / "raw" / "masks" / f"{number}.png")
    dataset = checked(tmp_path / "raw", task="segment", mask_values=NAMES).write(tmp_path / "dataset")
    extract_maps(tmp_path / "features", dataset, ExtractFeaturesParams())
    train_decoder(tmp_path / "features", tmp_path / "head", TrainHeadParams(), SilentLog())
    read = MaskDataset.read(tmp_path / "dataset", "segment")
    found = predicted(MaskBundle.load(tmp_path / "head"), read, read.rows("test"), "test")
    scores = {name: float(np.nanmean(found.iou[:, label])) for label, name in NAMES.items()}
    with capsys.disabled():
        print(f"\nshapes on photos: {scores}")
    assert min(scores.values()) >= 0.8
