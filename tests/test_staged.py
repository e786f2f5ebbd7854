"""Staged unfreezing on real images and a real backbone: judged, kept or rolled back, the same every time."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from graft.bundle import ModelBundle
from graft.dataset import TABLE_COLUMNS, ImageDataset, write_dataset
from graft.extraction import pixels_of
from graft.features import FeatureStore
from graft.fit import Fitted
from graft.incremental import extract_into
from graft.log import SilentLog
from graft.params import ExtractFeaturesParams, FineTuneParams, TrainHeadParams
from graft.reuse import decide, gather
from graft.staged import fine_tune, judge
from graft.training import fit_head

GROUP = "blocks.6"


def _png(label: int, number: int) -> bytes:
    generator = np.random.default_rng([label, number])
    pixels = generator.normal(110, 40, (40, 40, 3))
    pixels[:, :: 4 + 2 * label] += 60  # stripes of the class's own spacing
    content = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    images = [_png(number % 2, number) for number in range(96)]
    table = pd.DataFrame(dict.fromkeys(TABLE_COLUMNS, ""), index=range(96))
    table["id"] = [f"{number:064x}" for number in range(96)]
    table["path"] = [f"{number}.png" for number in range(96)]
    table["group"] = table["path"]
    table["label"] = [("ant", "bee")[number % 2] for number in range(96)]
    table["split"] = [("train", "train", "val", "test")[number // 2 % 4] for number in range(96)]
    table["width"] = table["height"] = 40
    return write_dataset(tmp_path_factory.mktemp("data") / "dataset", table, images, ("ant", "bee"))


@pytest.fixture(scope="module")
def head(dataset: ImageDataset, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    folder = tmp_path_factory.mktemp("features") / "features"
    extract_into(folder, dataset, ExtractFeaturesParams(image_size=64))
    evidence = gather(FeatureStore.read(folder), TrainHeadParams(folds=3))
    return fit_head(evidence, decide(evidence, "last", "linear"))


def _images(dataset: ImageDataset, split: str) -> list[bytes]:
    reader = dataset.reader()
    return [reader[int(row)] for row in dataset.indices(split)]


def test_the_head_of_a_bundle_says_what_the_probe_said(dataset: ImageDataset, head: ModelBundle) -> None:
    right = head.logits(_images(dataset, "train")).argmax(1) == dataset.targets()[dataset.indices("train")]
    assert right.mean() > 0.9
    assert head.spec.trained_groups == ()
    assert len(head.spec.curve) == len(head.spec.source_groups)


def test_only_the_plan_moves_and_the_record_says_so(dataset: ImageDataset, head: ModelBundle) -> None:
    params = FineTuneParams(strategy="upper", depth=GROUP, epochs=3, lr=1e-3, batch_size=8)
    tuned = fine_tune(dataset, head, params, SilentLog())
    (stage,) = tuned.spec.stages
    assert stage.groups == (GROUP, "neck")
    assert len(stage.val_loss) == len(stage.train_loss) == 3
    assert set(tuned.spec.trained_groups) == (set(stage.groups) if stage.kept else set())
    for name, before, after in zip(head.backbone.spec.groups, head.backbone.groups, tuned.backbone.groups, strict=True):
        if name not in stage.groups:
            same = after.state_dict()
            assert all(torch.equal(tensor, same[key]) for key, tensor in before.state_dict().items())


def test_the_result_is_never_worse_on_validation(dataset: ImageDataset, head: ModelBundle) -> None:
    # A rate that ruins everything: the stage must go.
    params = FineTuneParams(strategy="staged", epochs=2, lr=3.0, batch_size=8, patience=1)
    tuned = fine_tune(dataset, head, params, SilentLog())
    assert not tuned.spec.stages[-1].kept
    assert "rolled back" in tuned.spec.stages[-1].reason
    val = _images(dataset, "val")
    np.testing.assert_array_equal(tuned.logits(val), head.logits(val))
    assert tuned.spec.temperature == head.spec.temperature


def test_the_same_seed_gives_the_same_model(
    dataset: ImageDataset, head: ModelBundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    params = FineTuneParams(strategy="upper", depth=GROUP, epochs=2, lr=1e-3, batch_size=8)
    first = fine_tune(dataset, head, params, SilentLog())
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "another-cache"))
    monkeypatch.setattr("graft.activations.workers_of", lambda asked: 3)
    again = fine_tune(dataset, head, params, SilentLog())
    assert first.spec.stages[0].val_loss == again.spec.stages[0].val_loss
    a, b = first.classifier.state_dict(), again.classifier.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_nothing_is_trained_where_that_is_asked_for(dataset: ImageDataset, head: ModelBundle) -> None:
    assert fine_tune(dataset, head, FineTuneParams(enabled=False), SilentLog()) is head


def test_random_weights_are_trained_from_end_to_end(dataset: ImageDataset, tmp_path: Path) -> None:
    extract_into(tmp_path / "features", dataset, ExtractFeaturesParams(weights="none", image_size=64))
    evidence = gather(FeatureStore.read(tmp_path / "features"), TrainHeadParams(folds=3))
    start = fit_head(evidence, decide(evidence, "last", "linear"))
    tuned = fine_tune(dataset, start, FineTuneParams(strategy="all", epochs=1, batch_size=8), SilentLog())
    assert tuned.spec.backbone.weights.source == "none"
    assert tuned.spec.stages[0].groups == start.backbone.spec.groups


def test_views_are_the_same_for_whoever_asks(dataset: ImageDataset, head: ModelBundle) -> None:
    from graft.augment import augmentation
    from graft.staged import Pictures

    pictures = Pictures(dataset, "train", head.backbone, augmentation("light"), seed=0)
    assert torch.equal(pictures.pixels(3, 1), pictures.pixels(3, 1))
    assert not torch.equal(pictures.pixels(3, 1), pictures.pixels(3, 2))
    plain = Pictures(dataset, "train", head.backbone, None, seed=0)
    expected = pixels_of(head.transform, dataset)(int(dataset.indices("train")[3]))
    assert torch.equal(plain.pixels(3, 0), expected)


def _fitted(head: ModelBundle, logits: np.ndarray, best_epoch: int = 1) -> Fitted:
    return Fitted(head.classifier, logits.astype(np.float32), best_epoch, (0.1,), (0.1,))


@pytest.mark.parametrize(
    ("sharper", "best_epoch", "kept", "reason"),
    [(3.0, 1, True, "kept"), (1.001, 1, False, "no clear gain"), (3.0, 0, False, "no epoch was better")],
)
def test_a_stage_is_judged_by_the_paired_difference(
    head: ModelBundle, sharper: float, best_epoch: int, kept: bool, reason: str
) -> None:
    generator = np.random.default_rng(0)
    targets = np.arange(60) % 2
    before = np.stack([-(2.0 * targets - 1), 2.0 * targets - 1], axis=1) + generator.normal(0, 0.2, (60, 2))
    noise = generator.normal(0, 0.3, (60, 1)) if sharper < 2 else 0.0
    fitted = _fitted(head, before * (sharper + noise), best_epoch)
    judged = judge(before.astype(np.float32), fitted, targets, asked=False)
    assert judged.kept == kept
    assert reason in judged.reason


def test_a_stage_that_gets_more_wrong_is_not_kept(head: ModelBundle) -> None:
    targets = np.arange(60) % 2
    before = 0.1 * np.stack([-(2.0 * targets - 1), 2.0 * targets - 1], axis=1)
    after = 40 * before
    after[0] = after[0][::-1] * 0.01
    judged = judge(before.astype(np.float32), _fitted(head, after), targets, asked=True)
    assert not judged.kept
    assert "right 60 -> 59 of 60" in judged.reason
