"""One stage: what judges it, what is kept, and where the next stage starts."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from graft.data.dataset import ImageDataset
from graft.finetune.budget import Budget
from graft.finetune.image_views import TuningImages
from graft.finetune.stage_plan import make_plan
from graft.finetune.stage_trial import BestModel, StageInputs, first_model, train_stage, trial_of, try_briefly
from graft.finetune.staged import fine_tune
from graft.finetune.training_settings import training_settings
from graft.finetune.tuning_context import TuningContext
from graft.finetune.wise_ft import interpolated
from graft.models.bundle import ModelBundle
from graft.models.bundle_spec import StageRecord
from graft.params.fine_tune import FineTuneParams
from graft.runs.run_log import SilentLog
from graft.training.checkpoints import Checkpoints
from graft.training.prediction import predict
from tests.support.striped import GROUP
from tests.support.tiny import tuning_inputs
from tests.support.tiny_training import same_weights

GOOD = FineTuneParams(strategy="staged", depth="features.1", epochs=2, batch_size=7, lr=1e-3, folds=2)
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
        checkpoints = Checkpoints(None)
        return TuningContext(
            start, plan, settings, images, checkpoints, Budget(params.budget, 72, checkpoints), SilentLog()
        )

    return context


def trained(context: TuningContext, best: BestModel | None = None) -> tuple[StageRecord, BestModel, StageInputs]:
    """Train the plan's last stage completely."""
    inputs = StageInputs.of(context, context.plan.stages[-1])
    record, found = train_stage(context, 0, inputs, best or first_model(context, inputs), 1)
    return record, found, inputs


def test_a_stage_that_passes_on_its_folds_is_trained_on_all_images(make: Make) -> None:
    record, best, inputs = trained(make(GOOD))
    assert record.kept
    assert record.evidence == "cross_validation"
    assert "held-out training images" in record.reason
    assert "validation: log loss" in record.reason
    assert record.gain > 2 * record.error > 0
    assert record.epochs == record.planned_epochs == 2
    assert len(best.starts) == 2
    assert not any(same_weights(best.classifier, model) for model in best.starts)
    np.testing.assert_array_equal(best.val_logits, predict(best.classifier, inputs.val))


def test_only_validation_judges_if_there_are_no_folds(make: Make) -> None:
    # Twelve images would not show it, so the stage is asked for.
    context = make(GOOD.model_copy(update={"folds": 0, "strategy": "upper", "epochs": 1}))
    record, best, inputs = trained(context)
    assert record.kept
    assert record.evidence == "validation"
    assert len(best.starts) == 1
    logits = predict(best.classifier, inputs.val)
    np.testing.assert_array_equal(best.before[0], logits)
    assert best.temperature == inputs.val.task.fit_temperature(logits, inputs.val.targets)
    # Of each image the logits by the choice of others, at their temperature: the answer stays, not how sure it is.
    assert best.val_logits is not None
    ratio = best.val_logits / logits
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-4)
    assert len(np.unique(ratio[:, 0].round(4))) <= 5, "one temperature for each part of the images"


def test_a_stage_without_gain_keeps_the_best_model(make: Make) -> None:
    context = make(GOOD.model_copy(update={"lr": 1e-30}))
    start = first_model(context, StageInputs.of(context, context.plan.stages[-1]))
    record, best, _ = trained(context, start)
    assert not record.kept
    assert record.reason.startswith("rolled back: no clear gain; held-out training images")
    assert record.accuracy == record.start_accuracy
    assert record.gain == pytest.approx(0.0, abs=1e-6)
    assert best is start


def test_validation_may_reject_a_stage_that_passed_on_the_folds(make: Make) -> None:
    context = make(GOOD.model_copy(update={"depth": "features.0", "lr": 0.03, "epochs": 4}))
    val = context.images.val.plain
    val.targets = (val.targets + 1) % 3  # the labels contradict those of the training images
    start = first_model(context, StageInputs.of(context, context.plan.stages[-1]))
    record, best, _ = trained(context, start)
    assert not record.kept
    assert record.reason.startswith("rolled back: worse on validation")
    assert "held-out training images" in record.reason
    assert best is start


def test_the_next_stage_starts_from_the_folds_models(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    context = make(GOOD)
    first, best, _ = trained(context)
    monkeypatch.setattr(TuningContext, "with_head_fitted_to", lambda *_: pytest.fail("the folds have models"))
    second, _, _ = trained(context, best)
    assert second.start_loss == pytest.approx(first.log_loss, abs=1e-6)


def test_the_model_of_all_images_is_interpolated_like_the_folds(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    context = make(GOOD)
    _, whole, inputs = trained(context)
    monkeypatch.setattr(
        "graft.finetune.stage_trial.at_best_share", lambda folds, fitted, stage: replace(fitted, share=0.5)
    )
    record, best, _ = trained(make(GOOD.model_copy(update={"wise_ft": True})))
    assert record.kept
    assert record.share == 0.5
    assert same_weights(best.classifier, interpolated(context.start.classifier, whole.classifier, inputs.stage, 0.5))


def test_a_trial_is_short_complete_and_on_half_of_the_folds(make: Make) -> None:
    context = make(GOOD.model_copy(update={"epochs": 8, "folds": 4}))
    inputs = StageInputs.of(context, context.plan.stages[-1])
    short = trial_of(inputs.stage)
    assert (short.groups, short.epochs, short.lr) == (inputs.stage.groups, 4, inputs.stage.lr)
    trial = try_briefly(context, 0, inputs, first_model(context, inputs), 1)
    assert trial.found.images == sum(len(held_out) for _, held_out in context.images.folds[:2])
    assert (trial.record.trial, trial.record.kept, trial.record.epochs) == (True, False, 4)
    assert trial.promising == trial.found.on_the_way(60, 1)


def test_a_trial_of_nothing_is_not_on_the_way(make: Make) -> None:
    context = make(GOOD.model_copy(update={"lr": 1e-30}))
    inputs = StageInputs.of(context, context.plan.stages[-1])
    trial = try_briefly(context, 0, inputs, first_model(context, inputs), 1)
    assert not trial.promising
    assert trial.record.reason.startswith("not on the way to a clear gain after 1 epochs; log loss")


def test_a_small_set_is_judged_by_cross_validation(dataset: ImageDataset, head: ModelBundle) -> None:
    params = FineTuneParams(strategy="upper", depth=GROUP, epochs=2, lr=1e-3, batch_size=8, folds=3, refit=False)
    tuned = fine_tune(dataset, head, params, SilentLog())
    first = tuned.spec.stages[0]
    assert first.evidence == "cross_validation"
    assert len(first.held_out_loss) == first.epochs
    by_validation = fine_tune(dataset, head, params.model_copy(update={"folds": 0}), SilentLog())
    assert by_validation.spec.stages[0].evidence == "validation"
