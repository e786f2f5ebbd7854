"""Staged unfreezing on images and a real backbone: judged, kept or rolled back, and reproducible."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from graft.data.dataset import ImageDataset
from graft.finetune.staged import fine_tune
from graft.models.bundle import ModelBundle
from graft.params.fine_tune import FineTuneParams
from graft.runs.run_log import SilentLog
from tests.support.striped import GROUP, contents, linear_head
from tests.support.tiny_training import same_weights


def test_the_head_of_a_bundle_is_accurate_before_fine_tuning(dataset: ImageDataset, head: ModelBundle) -> None:
    right = head.logits(contents(dataset, "train")).argmax(1) == dataset.targets()[dataset.indices("train")]
    assert right.mean() > 0.9
    assert head.spec.trained_groups == ()
    assert len(head.spec.curve) == len(head.spec.source_groups)


def test_only_the_planned_groups_change_and_are_recorded(dataset: ImageDataset, head: ModelBundle) -> None:
    params = FineTuneParams(strategy="upper", depth=GROUP, epochs=3, lr=1e-3, batch_size=8)
    tuned = fine_tune(dataset, head, params, SilentLog())
    (stage,) = tuned.spec.stages
    assert stage.groups == (GROUP, "neck")
    assert len(stage.held_out_loss) == len(stage.train_loss) == 3
    assert set(tuned.spec.trained_groups) == set(stage.groups)
    for name, before, after in zip(head.backbone.spec.groups, head.backbone.groups, tuned.backbone.groups, strict=True):
        if name not in stage.groups:
            same = after.state_dict()
            assert all(torch.equal(tensor, same[key]) for key, tensor in before.state_dict().items())


def test_a_stage_that_ruins_the_model_ends_after_its_trial(dataset: ImageDataset, head: ModelBundle) -> None:
    params = FineTuneParams(strategy="staged", epochs=4, lr=3.0, batch_size=8, refit=False)
    tuned = fine_tune(dataset, head, params, SilentLog())
    (stage,) = tuned.spec.stages
    assert (stage.kept, stage.trial, stage.epochs) == (False, True, 2)
    assert stage.reason.startswith("not on the way to a clear gain")
    val = contents(dataset, "val")
    np.testing.assert_array_equal(tuned.logits(val), head.logits(val))
    assert tuned.spec.temperature == head.spec.temperature


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model(
    dataset: ImageDataset, head: ModelBundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    params = FineTuneParams(strategy="upper", depth=GROUP, epochs=2, lr=1e-3, batch_size=8)
    first = fine_tune(dataset, head, params, SilentLog())
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "another-cache"))
    monkeypatch.setattr("graft.backbones.activation_cache.worker_count", lambda asked: 3)
    again = fine_tune(dataset, head, params, SilentLog())
    assert first.spec.stages[0].held_out_loss == again.spec.stages[0].held_out_loss
    assert same_weights(first.classifier, again.classifier)


def test_nothing_is_trained_if_fine_tuning_is_disabled(dataset: ImageDataset, head: ModelBundle) -> None:
    assert fine_tune(dataset, head, FineTuneParams(enabled=False, refit=False), SilentLog()) is head


def test_random_weights_are_trained_end_to_end(dataset: ImageDataset, tmp_path: Path) -> None:
    start = linear_head(dataset, tmp_path / "features", weights="none")
    tuned = fine_tune(dataset, start, FineTuneParams(strategy="all", epochs=1, batch_size=8), SilentLog())
    assert tuned.spec.backbone.weights.source == "none"
    assert tuned.spec.stages[0].groups == start.backbone.spec.groups


def test_who_asks_for_a_stage_gets_it_with_the_comparison(dataset: ImageDataset, head: ModelBundle) -> None:
    params = FineTuneParams(strategy="upper", depth=GROUP, epochs=1, lr=1.0, batch_size=8, refit=False)
    tuned = fine_tune(dataset, head, params, SilentLog())
    (stage,) = tuned.spec.stages
    assert stage.kept
    assert tuned.spec.trained_groups == stage.groups
    assert stage.reason.startswith("kept as asked for (")
    assert "log loss" in stage.reason


def test_with_few_errors_nothing_is_tried_and_the_bundle_says_why(
    dataset: ImageDataset, head: ModelBundle, capsys: pytest.CaptureFixture[str]
) -> None:
    targets = dataset.targets()[dataset.indices("train")]
    sure = np.where(targets[:, None] == np.arange(2), 0.99, 0.01)
    sure[0] = sure[0][::-1]
    tuned = fine_tune(dataset, head, FineTuneParams(refit=False), SilentLog(), sure)
    assert tuned.spec.stages == ()
    assert tuned.spec.untried == "1 of 48 wrong: nothing to win"
    assert "1 of 48 wrong: nothing to win; no stage is tried" in capsys.readouterr().err
    assert fine_tune(dataset, head, FineTuneParams(), SilentLog(), sure).spec.refit
    asked = FineTuneParams(strategy="upper", depth=GROUP, epochs=1, lr=1e-4, refit=False)
    assert fine_tune(dataset, head, asked, SilentLog(), sure).spec.stages, "who asks for a stage gets it"


def test_without_validation_images_the_training_images_judge(dataset: ImageDataset, head: ModelBundle) -> None:
    table = dataset.table.copy()
    table.loc[table["split"] == "val", "split"] = "test"
    unvalidated = replace(dataset, table=table)
    params = FineTuneParams(strategy="upper", depth=GROUP, epochs=1, lr=1e-4, batch_size=8, folds="auto")
    tuned = fine_tune(unvalidated, head, params, SilentLog())
    (stage,) = tuned.spec.stages
    assert stage.evidence == "cross_validation"
    assert stage.kept
    assert not tuned.spec.refit
    nothing = fine_tune(unvalidated, head, params.model_copy(update={"folds": 0}), SilentLog())
    assert nothing.spec.stages == ()
    assert nothing.spec.untried == "no validation images and no folds to judge a stage by (fine_tune.folds=0)"


class CutError(Exception):
    """Simulates an interruption."""


KILLED = FineTuneParams(strategy="upper", depth=GROUP, epochs=2, lr=5e-5, batch_size=8, folds=2, refit=True)


@pytest.fixture(scope="module")
def whole(dataset: ImageDataset, head: ModelBundle) -> ModelBundle:
    """What comes of these parameters if nothing interrupts the training."""
    tuned = fine_tune(dataset, head, KILLED, SilentLog())
    assert tuned.spec.stages[0].kept, "without a kept stage there are fewer epochs to interrupt"
    return tuned


@pytest.mark.slow
@pytest.mark.parametrize("epoch", ["stage blocks.6: epoch 1/2", "on all training images: epoch 1", "refit with"])
def test_killed_at_any_epoch_the_model_is_the_same(
    dataset: ImageDataset,
    head: ModelBundle,
    whole: ModelBundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    epoch: str,
) -> None:
    def cut(text: str) -> None:
        if epoch in text:
            raise CutError(text)

    with monkeypatch.context() as patch:
        patch.setattr("graft.finetune.reporting.print_progress", cut)
        with pytest.raises(CutError):
            fine_tune(dataset, head, KILLED, SilentLog())
    assert list((tmp_path / "graft-cache" / "training").glob("*/*.safetensors")) or "epoch 1/2" in epoch
    again = fine_tune(dataset, head, KILLED, SilentLog())
    assert same_weights(whole.classifier, again.classifier)
    assert again.spec.stages[0].held_out_loss == whole.spec.stages[0].held_out_loss
    assert not list((tmp_path / "graft-cache" / "training").glob("*")), "done: nothing to resume"


def test_surgical_trains_only_one_group(dataset: ImageDataset, head: ModelBundle) -> None:
    params = FineTuneParams(strategy="surgical", epochs=1, lr=1e-3, batch_size=8, refit=False)
    (stage,) = fine_tune(dataset, head, params, SilentLog()).spec.stages
    assert len(stage.groups) == 1
    if stage.kept:
        assert fine_tune(dataset, head, params, SilentLog()).spec.trained_groups == stage.groups


@pytest.mark.parametrize(("behind", "tried"), [(0.4, 2), (0.01, 1)], ids=["far", "near"])
def test_in_a_far_domain_the_deeper_stage_races_with_the_first(
    dataset: ImageDataset, head: ModelBundle, behind: float, tried: int
) -> None:
    points = [
        point.model_copy(update={"log_loss": 0.1 if point.tap == GROUP else 0.1 + behind, "behind": behind})
        for point in head.spec.curve
    ]
    bundle = replace(head, spec=head.spec.model_copy(update={"curve": tuple(points)}))
    params = FineTuneParams(epochs=1, lr=1e-30, folds=0, refit=False, augment="none")
    tuned = fine_tune(dataset, bundle, params, SilentLog())
    assert [stage.kept for stage in tuned.spec.stages] == [False] * tried
    assert tuned.spec.trained_groups == ()
