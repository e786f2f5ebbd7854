"""What each recipe of a stage brings, judged by held-out training images: no test image is looked at."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.accuracy import dataset_folder
from benchmarks.measure import Result, Spread
from graft.backbones.feature_store import FeatureStore
from graft.backbones.incremental import extract_into
from graft.data.dataset import ImageDataset
from graft.finetune.budget import Budget
from graft.finetune.cross_fitting import cross_fit
from graft.finetune.image_views import TuningImages
from graft.finetune.stage_plan import best_group, make_plan
from graft.finetune.stage_trial import StageInputs, first_model
from graft.finetune.stage_verdict import Comparison
from graft.finetune.training_settings import training_settings
from graft.finetune.tuning_context import TuningContext
from graft.finetune.wise_ft import at_best_share
from graft.heads.depth_selection import choose_head
from graft.heads.head_inputs import prepare_head_inputs
from graft.models.bundle import ModelBundle
from graft.models.fit_head import fit_head
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.fine_tune import FineTuneParams
from graft.params.train_head import TrainHeadParams
from graft.params.validate_data import ValidateDataParams
from graft.quality.validation import validate
from graft.runs.run_log import SilentLog
from graft.training.checkpoints import Checkpoints
from graft.training.objective import label_weights

DATASETS = ("sketches", "cartoons", "paintings", "flower_photos_mini", "digits")
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "as by default": {},
    "the end of the way (no WiSE-FT)": {"wise_ft": False},
    "no augmentation": {"augment": "none"},
    "strong augmentation": {"augment": "strong"},
    "mirrored": {"flip": True},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "three times the learning rate": {"lr": 1e-3},
}
FOLDS = 2


@dataclass(frozen=True)
class Tried:
    """One stage with one recipe."""

    stage: str
    found: Comparison
    share: float
    seconds: float


def tuning(work: Path, rounds: int) -> list[Result]:
    """Fall of the held-out log loss by the first and by the deeper stage of the plan, by recipe; a seed per round."""
    results = []
    for name in DATASETS:
        prepared = [_prepared(name, work, seed) for seed in range(rounds)]
        for recipe, changes in RECIPES.items():
            for place in (0, -1):
                tried = [_tried(dataset, head, changes, place) for dataset, head in prepared]
                results.append(_result(f"{name}, stage {'one' if place == 0 else 'two'}, {recipe}", tried))
    return results


def _prepared(name: str, work: Path, seed: int) -> tuple[ImageDataset, ModelBundle]:
    place = work / f"{name}-{seed}"
    checked = validate(dataset_folder(name, work), ValidateDataParams(seed=seed, on_leakage="drop"))
    dataset = checked.write(place / "dataset")
    extract_into(place / "features", dataset, ExtractFeaturesParams())
    inputs = prepare_head_inputs(FeatureStore.read(place / "features"), TrainHeadParams(seed=seed))
    return dataset, fit_head(inputs, choose_head(inputs, "auto", "auto"))


def _tried(dataset: ImageDataset, head: ModelBundle, changes: Mapping[str, Any], place: int) -> Tried:
    params = FineTuneParams(folds=FOLDS, budget="none", **changes)
    groups, train = head.spec.backbone.groups, dataset.labelled("train")
    best = best_group(groups, {point.tap: point.log_loss for point in head.spec.curve})
    plan = make_plan(groups, len(train), params, best=best, pretrained=True)
    images = TuningImages.of(dataset, head.transform, plan, params)
    weights = label_weights(head.task, images.train.plain.targets, head.spec.weighted)
    settings = training_settings(params, plan, weights, pretrained=True)
    nothing = Checkpoints(None)
    context = TuningContext(head, plan, settings, images, nothing, Budget("none", 1, nothing), SilentLog())
    started, stage = time.process_time(), plan.stages[place]
    inputs = StageInputs.of(context, stage)
    folds = inputs.folds(context, first_model(context, inputs))
    fitted = cross_fit(folds, stage, settings)
    if plan.wise_ft:
        fitted = at_best_share(folds, fitted, stage)
    found = fitted.held_out.compare(fitted.before, fitted.after)
    return Tried(stage.name, found, fitted.share, time.process_time() - started)


def _result(what: str, tried: list[Tried]) -> Result:
    gains = [each.found.gain for each in tried]
    note = "; ".join(
        f"above {each.stage}: {each.found.describe()}, share {each.share:g}, {each.seconds:.0f} CPU s" for each in tried
    )
    return Result(what, replace(Spread.of(gains), low=min(gains), high=max(gains)), "less log loss", note=note)
