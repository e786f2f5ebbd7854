"""`train_head.class_weight` holds for the whole model: the head, the stages of fine-tuning and the refit."""

from pathlib import Path

import pandas as pd
import pytest

from components.extract_features.step import extract_features
from components.fine_tune.step import fine_tune
from components.train_head.step import train_head
from graft.data.dataset import write_dataset
from graft.finetune import stage_trial
from graft.models import fit_head
from graft.models.bundle import ModelBundle
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.fine_tune import FineTuneParams
from graft.params.train_head import TrainHeadParams
from graft.runs.run_log import SilentLog
from graft.training.settings import TrainingSettings
from tests.support.tiny import small_dataset

LOG = SilentLog()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of a data set whose first class has half as many training images as the others."""
    folder = tmp_path_factory.mktemp("imbalanced")
    whole = small_dataset(folder / "whole", val=8)
    rare = (whole.table["label"] == "ant") & (whole.table["split"] == "train")
    kept = whole.table.drop(whole.table[rare].index[::2])
    images = [whole.image(int(row)) for row in kept.index]
    write_dataset(folder / "dataset", pd.DataFrame(kept), images, whole.classes)
    backbone = ExtractFeaturesParams(backbone="mobilenet_v3_small", weights="none", image_size=32)
    extract_features(folder / "dataset", folder / "features", backbone, LOG)
    return folder


@pytest.mark.parametrize(("asked", "weighted"), [("auto", True), ("balanced", True), ("none", False)])
def test_stages_and_refit_weight_as_the_head_did(
    asked: str, weighted: bool, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_head(prepared / "features", tmp_path / "head", TrainHeadParams(class_weight=asked, folds=3), LOG)
    assert ModelBundle.load(tmp_path / "head").spec.weighted is weighted
    stages: list[bool] = []
    heads: list[bool] = []
    fit, refit = stage_trial.cross_fit, fit_head.family

    def recorded(folds: object, stage: object, settings: TrainingSettings, *rest: object) -> object:
        stages.append(settings.label_weights is not None)
        return fit(folds, stage, settings, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(stage_trial, "cross_fit", recorded)
    monkeypatch.setattr(fit_head, "family", lambda *kind: _Recorded(refit(*kind), heads))
    params = FineTuneParams(strategy="all", epochs=1, folds=2, refit=True)
    fine_tune(prepared / "dataset", prepared / "features", tmp_path / "head", tmp_path / "model", params, LOG)
    assert stages == [weighted]
    assert set(heads) == {weighted}
    model = ModelBundle.load(tmp_path / "model")
    assert model.spec.weighted is weighted


class _Recorded:
    """A kind of head that notes whether it is fitted with weights."""

    def __init__(self, kind: object, noted: list[bool]) -> None:
        self._kind, self._noted = kind, noted

    def fit_at(self, *arguments: object, weighted: bool, **rest: object) -> object:
        self._noted.append(weighted)
        return self._kind.fit_at(*arguments, weighted=weighted, **rest)  # type: ignore[attr-defined]
