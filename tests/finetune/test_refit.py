"""Refit: the head and the kept stages are trained again with the validation images; all choices stay."""

from pathlib import Path

import numpy as np
import pytest
import torch

from graft.backbones.incremental import extract_into
from graft.data.dataset import ImageDataset
from graft.finetune.image_views import ImageViews
from graft.finetune.staged import fine_tune
from graft.heads.class_moments import ClassMoments
from graft.models.bundle import ModelBundle
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.fine_tune import FineTuneParams
from graft.runs.run_log import SilentLog
from tests.support.striped import GROUP, contents


def test_refit_uses_the_validation_images_and_keeps_the_earlier_logits(
    dataset: ImageDataset, head: ModelBundle, tmp_path: Path
) -> None:
    params = FineTuneParams(strategy="upper", depth=GROUP, epochs=2, lr=1e-3, batch_size=8, refit=False, folds=2)
    chosen = fine_tune(dataset, head, params, SilentLog())
    again = fine_tune(dataset, head, params.model_copy(update={"refit": True}), SilentLog())
    assert again.spec.refit
    assert not chosen.spec.refit
    assert again.spec.temperature == chosen.spec.temperature
    val = contents(dataset, "val")
    assert again.validation is not None
    # within the rounding of cached activations
    ids = dataset.table["id"].iloc[dataset.indices("val")]
    stored = again.validation.aligned(ids)
    np.testing.assert_allclose(stored, chosen.logits(val), atol=0.05, rtol=0.02)
    assert not np.allclose(again.logits(val), stored, atol=0.05)
    again.save(tmp_path / "model")
    read = ModelBundle.load(tmp_path / "model").validation
    assert read is not None
    np.testing.assert_array_equal(read.aligned(ids[::-1]), stored[::-1])


def test_refit_of_a_head_alone(dataset: ImageDataset, head: ModelBundle) -> None:
    found = fine_tune(dataset, head, FineTuneParams(enabled=False, refit=True), SilentLog())
    assert found.spec.refit
    assert found.spec.trained_groups == ()
    before, after = head.classifier.backbone.state_dict(), found.classifier.backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(head.classifier.head.linear.weight, found.classifier.head.linear.weight)


def test_stored_features_serve_where_nothing_was_trained(
    dataset: ImageDataset, head: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is the one from features that are computed again, and no image is opened."""
    alone = FineTuneParams(enabled=False, refit=True)
    computed = fine_tune(dataset, head, alone, SilentLog())
    store = extract_into(tmp_path / "features", dataset, ExtractFeaturesParams(workers=1), own=head.backbone).store

    def opened(*_: object) -> torch.Tensor:
        raise AssertionError("an image was opened")

    monkeypatch.setattr(ImageViews, "pixels", opened)
    stored = fine_tune(dataset, head, alone, SilentLog(), store=store)
    for name, tensor in computed.classifier.state_dict().items():
        torch.testing.assert_close(stored.classifier.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
    assert stored.validation is not None
    assert computed.validation is not None
    ids = dataset.table["id"].iloc[dataset.indices("val")]
    np.testing.assert_allclose(stored.validation.aligned(ids), computed.validation.aligned(ids), atol=1e-3)


def test_the_moments_are_those_of_the_images_that_the_head_was_fitted_to(
    dataset: ImageDataset, head: ModelBundle
) -> None:
    tuned = FineTuneParams(strategy="upper", depth=GROUP, epochs=1, lr=1e-3, batch_size=8, refit=False, folds=2)
    refitted = tuned.model_copy(update={"refit": True})
    alone = FineTuneParams(enabled=False, refit=True)
    for params, splits in (
        (None, ("train",)),
        (tuned, ("train",)),
        (refitted, ("train", "val")),
        (alone, ("train", "val")),
    ):
        model = head if params is None else fine_tune(dataset, head, params, SilentLog())
        assert bool(model.spec.trained_groups) == (params in (tuned, refitted))
        files = [content for split in splits for content in contents(dataset, split)]
        rows = np.concatenate([dataset.indices(split) for split in splits])
        _, features = model.logits_and_features(files)
        expected = ClassMoments.of(features, dataset.targets()[rows], 2)
        assert model.moments is not None
        np.testing.assert_array_equal(model.moments.counts, expected.counts)
        # within the rounding of cached activations
        spread = np.sqrt(expected.variances.mean())
        assert np.abs(model.moments.means - expected.means).max() < 0.03 * spread
        assert np.abs(model.moments.variances - expected.variances).max() < 0.05 * expected.variances.max()
        assert model.sample is not None
        np.testing.assert_allclose(model.sample.features, features, atol=0.05 * spread, rtol=0.02)
