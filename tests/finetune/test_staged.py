"""Staged unfreezing on real images and a real backbone: judged, kept or rolled back, the same every time."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from graft.backbones.extraction import pixel_loader
from graft.backbones.feature_store import FeatureStore
from graft.backbones.incremental import extract_into
from graft.data.dataset import TABLE_COLUMNS, ImageDataset, write_dataset
from graft.finetune.staged import fine_tune
from graft.heads.depth_selection import choose_head, prepare_head_inputs
from graft.models.bundle import ModelBundle
from graft.models.fit_head import fit_head
from graft.runs.params import ExtractFeaturesParams, FineTuneParams, TrainHeadParams
from graft.runs.run_log import SilentLog

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
    inputs = prepare_head_inputs(FeatureStore.read(folder), TrainHeadParams(folds=3))
    return fit_head(inputs, choose_head(inputs, "last", "linear"))


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
    assert len(stage.held_out_loss) == len(stage.train_loss) == 3
    assert set(tuned.spec.trained_groups) == (set(stage.groups) if stage.kept else set())
    for name, before, after in zip(head.backbone.spec.groups, head.backbone.groups, tuned.backbone.groups, strict=True):
        if name not in stage.groups:
            same = after.state_dict()
            assert all(torch.equal(tensor, same[key]) for key, tensor in before.state_dict().items())


def test_the_result_is_never_worse_on_validation(dataset: ImageDataset, head: ModelBundle) -> None:
    # A rate that ruins everything: the stage must go.
    params = FineTuneParams(strategy="staged", epochs=2, lr=3.0, batch_size=8, patience=1, refit=False)
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
    monkeypatch.setattr("graft.backbones.activation_cache.worker_count", lambda asked: 3)
    again = fine_tune(dataset, head, params, SilentLog())
    assert first.spec.stages[0].held_out_loss == again.spec.stages[0].held_out_loss
    a, b = first.classifier.state_dict(), again.classifier.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_nothing_is_trained_where_that_is_asked_for(dataset: ImageDataset, head: ModelBundle) -> None:
    assert fine_tune(dataset, head, FineTuneParams(enabled=False, refit=False), SilentLog()) is head


def test_random_weights_are_trained_from_end_to_end(dataset: ImageDataset, tmp_path: Path) -> None:
    extract_into(tmp_path / "features", dataset, ExtractFeaturesParams(weights="none", image_size=64))
    inputs = prepare_head_inputs(FeatureStore.read(tmp_path / "features"), TrainHeadParams(folds=3))
    start = fit_head(inputs, choose_head(inputs, "last", "linear"))
    tuned = fine_tune(dataset, start, FineTuneParams(strategy="all", epochs=1, batch_size=8), SilentLog())
    assert tuned.spec.backbone.weights.source == "none"
    assert tuned.spec.stages[0].groups == start.backbone.spec.groups


def test_views_are_the_same_for_whoever_asks(dataset: ImageDataset, head: ModelBundle) -> None:
    from graft.finetune.stage_inputs import Pictures
    from graft.imaging.augmentation import augmentation

    pictures = Pictures(dataset, "train", head.backbone, augmentation("light"), seed=0)
    assert torch.equal(pictures.pixels(3, 1), pictures.pixels(3, 1))
    assert not torch.equal(pictures.pixels(3, 1), pictures.pixels(3, 2))
    plain = Pictures(dataset, "train", head.backbone, None, seed=0)
    expected = pixel_loader(head.transform, dataset)(int(dataset.indices("train")[3]))
    assert torch.equal(plain.pixels(3, 0), expected)


def test_a_small_set_is_judged_by_cross_validation(dataset: ImageDataset, head: ModelBundle) -> None:
    params = FineTuneParams(strategy="staged", epochs=2, lr=1e-3, batch_size=8, folds=3, refit=False)
    tuned = fine_tune(dataset, head, params, SilentLog())
    first = tuned.spec.stages[0]
    assert first.evidence == "cross_validation"
    assert f"of {len(dataset.indices('train'))}" in first.reason
    assert len(first.held_out_loss) == first.epochs
    by_validation = fine_tune(dataset, head, params.model_copy(update={"folds": 0}), SilentLog())
    assert by_validation.spec.stages[0].evidence == "validation"


def test_refit_uses_the_validation_images_and_keeps_what_was_said_of_them(
    dataset: ImageDataset, head: ModelBundle, tmp_path: Path
) -> None:
    params = FineTuneParams(strategy="upper", depth=GROUP, epochs=2, lr=1e-3, batch_size=8, refit=False)
    chosen = fine_tune(dataset, head, params, SilentLog())
    again = fine_tune(dataset, head, params.model_copy(update={"refit": True}), SilentLog())
    assert again.spec.refit
    assert not chosen.spec.refit
    assert again.spec.temperature == chosen.spec.temperature
    val = _images(dataset, "val")
    assert again.validation is not None
    # within the rounding of cached activations
    np.testing.assert_allclose(again.validation, chosen.logits(val), atol=0.05, rtol=0.02)
    assert not np.allclose(again.logits(val), again.validation, atol=0.05)
    again.save(tmp_path / "model")
    np.testing.assert_array_equal(ModelBundle.load(tmp_path / "model").validation, again.validation)


def test_refit_of_a_head_alone(dataset: ImageDataset, head: ModelBundle) -> None:
    found = fine_tune(dataset, head, FineTuneParams(enabled=False, refit=True), SilentLog())
    assert found.spec.refit
    assert found.spec.trained_groups == ()
    before, after = head.classifier.backbone.state_dict(), found.classifier.backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(head.classifier.head.linear.weight, found.classifier.head.linear.weight)


class CutError(Exception):
    """The power is off."""


@pytest.mark.parametrize("epoch", ["stage blocks.6: epoch 1/2", "on all training images: epoch 1", "refit with"])
def test_killed_at_any_epoch_it_ends_in_the_same_model(
    dataset: ImageDataset,
    head: ModelBundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    epoch: str,
) -> None:
    params = FineTuneParams(strategy="upper", depth=GROUP, epochs=2, lr=5e-5, batch_size=8, folds=2, refit=True)
    whole = fine_tune(dataset, head, params, SilentLog())
    assert whole.spec.stages[0].kept, "without a kept stage there is no other epoch to be killed at"

    def cut(text: str) -> None:
        if epoch in text:
            raise CutError(text)

    with monkeypatch.context() as power:
        power.setattr("graft.finetune.staged._say", cut)
        with pytest.raises(CutError):
            fine_tune(dataset, head, params, SilentLog())
    assert list((tmp_path / "graft-cache" / "training").glob("*/*.safetensors")) or "epoch 1/2" in epoch
    again = fine_tune(dataset, head, params, SilentLog())
    a, b = whole.classifier.state_dict(), again.classifier.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert again.spec.stages[0].held_out_loss == whole.spec.stages[0].held_out_loss
    assert not list((tmp_path / "graft-cache" / "training").glob("*")), "done: nothing to take up"


def test_surgical_trains_one_group_alone(dataset: ImageDataset, head: ModelBundle) -> None:
    params = FineTuneParams(strategy="surgical", epochs=1, lr=1e-3, batch_size=8, refit=False)
    (stage,) = fine_tune(dataset, head, params, SilentLog()).spec.stages
    assert len(stage.groups) == 1
    if stage.kept:
        assert fine_tune(dataset, head, params, SilentLog()).spec.trained_groups == stage.groups


def test_relative_gradient_norms_are_per_group_and_leave_the_weights(dataset: ImageDataset, head: ModelBundle) -> None:
    from graft.finetune.stage_inputs import Direct, Pictures
    from graft.finetune.surgical import relative_gradient_norms
    from graft.finetune.trainer import Labelled

    before = {name: tensor.clone() for name, tensor in head.classifier.state_dict().items()}
    plain = Pictures(dataset, "train", head.backbone, None, seed=0)
    norms = relative_gradient_norms(head.classifier, Labelled.all(Direct(plain), plain.targets))
    assert set(norms) == set(head.backbone.spec.groups)
    assert all(norm > 0 for norm in norms.values())
    assert all(torch.equal(before[name], tensor) for name, tensor in head.classifier.state_dict().items())


@pytest.mark.parametrize(("last", "tried"), [(0.5, 2), (0.1, 1)], ids=["far", "near"])
def test_a_far_domain_is_searched_further_down_though_a_stage_brought_nothing(
    dataset: ImageDataset, head: ModelBundle, last: float, tried: int
) -> None:
    points = [point.model_copy(update={"log_loss": 0.1 if point.tap == GROUP else last}) for point in head.spec.curve]
    bundle = replace(head, spec=head.spec.model_copy(update={"curve": tuple(points)}))
    params = FineTuneParams(epochs=1, lr=1e-12, folds=0, refit=False, augment="none")
    tuned = fine_tune(dataset, bundle, params, SilentLog())
    assert [stage.kept for stage in tuned.spec.stages] == [False] * tried
    assert tuned.spec.trained_groups == ()
