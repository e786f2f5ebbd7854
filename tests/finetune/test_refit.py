"""Refit: the head and the kept stages are trained again with the validation images; all choices stay."""

from pathlib import Path

import numpy as np
import torch

from graft.data.dataset import ImageDataset
from graft.finetune.staged import fine_tune
from graft.models.bundle import ModelBundle
from graft.runs.params import FineTuneParams
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
