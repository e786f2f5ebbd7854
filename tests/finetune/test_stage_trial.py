"""One stage: what judges it, what is kept, and where the next stage starts."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from graft.data.dataset import ImageDataset
from graft.finetune.checkpoints import Checkpoints
from graft.finetune.image_views import TuningImages
from graft.finetune.prediction import predict
from graft.finetune.stage_inputs import stage_inputs
from graft.finetune.stage_plan import make_plan
from graft.finetune.stage_trial import BestModel, try_stage
from graft.finetune.staged import fine_tune
from graft.finetune.training_settings import training_settings
from graft.finetune.tuning_context import TuningContext
from graft.finetune.wise_ft import interpolated
from graft.models.bundle import ModelBundle
from graft.runs.params import FineTuneParams
from graft.runs.run_log import SilentLog
from tests.support.striped import GROUP
from tests.support.tiny import tuning_inputs
from tests.support.tiny_training import same_weights

GOOD = FineTuneParams(strategy="upper", depth="features.1", epochs=2, batch_size=7, lr=1e-3, folds=2)
Make = Callable[[FineTuneParams], TuningContext]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return a function from parameters to the context that the stages of a tiny model share."""
    folder = tuning_inputs(tmp_path_factory.mktemp("tiny"))
    tiny, start = ImageDataset.read(folder / "dataset"), ModelBundle.load(folder / "head")

    def context(params: FineTuneParams) -> TuningContext:
        plan = make_plan(start.spec.backbone.groups, 60, params, best="features.1", pretrained=True)
        images = TuningImages.of(tiny, start.transform, plan, params)
        settings = training_settings(params, plan, None, pretrained=True)
        return TuningContext(start, plan, settings, images, Checkpoints(None), SilentLog())

    return context


def test_a_stage_that_passes_on_its_folds_is_trained_on_all_images(make: Make) -> None:
    context = make(GOOD)
    (stage,) = context.plan.stages
    record, best = try_stage(context, 0, stage, BestModel(context.start.classifier))
    assert record.kept
    assert record.evidence == "cross_validation"
    assert "held-out training images" in record.reason
    assert "validation: log loss" in record.reason
    assert len(best.fold_models) == 2
    assert not any(same_weights(best.classifier, model) for model in best.fold_models)
    val = stage_inputs(context.start.classifier, stage, context.images.val.plain)
    np.testing.assert_array_equal(best.val_logits, predict(best.classifier, val))


def test_only_validation_judges_if_there_are_no_folds(make: Make) -> None:
    context = make(GOOD.model_copy(update={"folds": 0}))
    (stage,) = context.plan.stages
    record, best = try_stage(context, 0, stage, BestModel(context.start.classifier))
    assert record.kept
    assert record.evidence == "validation"
    assert best.fold_models == ()
    val = stage_inputs(context.start.classifier, stage, context.images.val.plain)
    np.testing.assert_array_equal(best.val_logits, predict(best.classifier, val))


def test_a_stage_without_gain_keeps_the_best_model(make: Make) -> None:
    context = make(GOOD.model_copy(update={"lr": 1e-30}))
    start = BestModel(context.start.classifier)
    record, best = try_stage(context, 0, context.plan.stages[0], start)
    assert not record.kept
    assert (record.epochs, record.best_epoch) == (2, 0)
    assert record.accuracy == record.start_accuracy
    assert best is start


def test_validation_may_reject_a_stage_that_passed_on_the_folds(make: Make) -> None:
    context = make(GOOD.model_copy(update={"depth": "features.0", "lr": 0.03, "epochs": 4}))
    val = context.images.val.plain
    val.targets = (val.targets + 1) % 3  # the labels contradict those of the training images
    start = BestModel(context.start.classifier)
    record, best = try_stage(context, 0, context.plan.stages[0], start)
    assert not record.kept
    assert record.reason.startswith("rolled back: worse on validation")
    assert "held-out training images" in record.reason
    assert best is start


def test_the_next_stage_starts_from_the_folds_models(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    context = make(GOOD)
    (stage,) = context.plan.stages
    first, best = try_stage(context, 0, stage, BestModel(context.start.classifier))
    monkeypatch.setattr(TuningContext, "with_head_fitted_to", lambda *_: pytest.fail("the folds have models"))
    second, _ = try_stage(context, 1, stage, best)
    assert second.start_loss == pytest.approx(first.log_loss, abs=1e-6)


def test_the_model_of_all_images_is_interpolated_like_the_folds(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    start = make(GOOD).start.classifier
    (stage,) = make(GOOD).plan.stages
    _, whole = try_stage(make(GOOD), 0, stage, BestModel(start))
    monkeypatch.setattr(
        "graft.finetune.stage_trial.at_best_share", lambda folds, fitted, stage: replace(fitted, share=0.5)
    )
    record, best = try_stage(make(GOOD.model_copy(update={"wise_ft": True})), 0, stage, BestModel(start))
    assert record.kept
    assert record.share == 0.5
    assert same_weights(best.classifier, interpolated(start, whole.classifier, stage, 0.5))


def test_a_small_set_is_judged_by_cross_validation(dataset: ImageDataset, head: ModelBundle) -> None:
    params = FineTuneParams(strategy="upper", depth=GROUP, epochs=2, lr=1e-3, batch_size=8, folds=3, refit=False)
    tuned = fine_tune(dataset, head, params, SilentLog())
    first = tuned.spec.stages[0]
    assert first.evidence == "cross_validation"
    assert f"of {len(dataset.indices('train'))}" in first.reason
    assert len(first.held_out_loss) == first.epochs
    by_validation = fine_tune(dataset, head, params.model_copy(update={"folds": 0}), SilentLog())
    assert by_validation.spec.stages[0].evidence == "validation"
