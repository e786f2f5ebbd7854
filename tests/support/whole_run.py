"""All steps from what people bring to the report, with a small untrained backbone and without fine-tuning."""

from pathlib import Path

import pytest

from components.evaluate.step import evaluate
from components.extract_features.step import extract_features
from components.fine_tune.step import fine_tune
from components.get_data.step import get_data
from components.review_features.step import review_features
from components.train_head.step import train_head
from components.validate_data.step import validate_data
from graft.params.evaluate import EvaluateParams
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.fine_tune import FineTuneParams
from graft.params.get_data import GetDataParams
from graft.params.review_features import ReviewFeaturesParams
from graft.params.train_head import TrainHeadParams
from graft.params.validate_data import ValidateDataParams
from graft.runs.run_log import SilentLog

SIDE = 32


def train(source: Path, folder: Path, validation: ValidateDataParams | None = None) -> None:
    """Run the steps on `source`; leave raw, dataset, features, head, review, model and evaluation in `folder`.

    Args:
        source: folder of images or manifest.
        folder: where the artifacts go.
        validation: the section of `validate_data`; None: the defaults.
    """
    log = SilentLog()
    dataset, features, head, model = (folder / name for name in ("dataset", "features", "head", "model"))
    backbone = ExtractFeaturesParams(backbone="resnet18", weights="none", image_size=SIDE, workers=1)
    quick = EvaluateParams(bootstrap=100, learning_curve=False, explain=False, random_init=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAFT_CACHE", "off")
        get_data(folder / "raw", GetDataParams(source=str(source)), log)
        validate_data(folder / "raw", dataset, folder / "page", validation or ValidateDataParams(), log)
        extract_features(dataset, features, backbone, log)
    train_head(features, head, TrainHeadParams(l2=0.01, folds=2), log)
    review_features(dataset, features, head, folder / "review", ReviewFeaturesParams(), log)
    fine_tune(dataset, features, head, model, FineTuneParams(enabled=False), log)
    evaluate(dataset, features, head, model, folder / "evaluation", quick, log)
