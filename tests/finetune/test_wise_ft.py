"""Interpolation between the weights before and after a stage."""

import numpy as np
import pytest
import torch

from graft.finetune.cross_fitting import Fold, cross_fit, predictions
from graft.finetune.wise_ft import at_best_share, interpolated
from graft.models.classifier import Classifier
from graft.training.stage import Stage
from tests.support.tiny_training import SETTINGS, STAGE, labelled, misleading, three_folds, untrained


@pytest.fixture(scope="module")
def start() -> Classifier:
    return untrained()


@pytest.fixture(scope="module")
def folds(start: Classifier) -> list[Fold]:
    return three_folds(start, labelled(48, 0))


def test_weights_between_start_and_end(start: Classifier, folds: list[Fold]) -> None:
    fitted = cross_fit(folds, STAGE, SETTINGS)
    end = fitted.classifiers[0]
    for share, same in ((0.0, start), (1.0, end)):
        pairs = zip(
            interpolated(start, end, STAGE, share).state_dict().values(), same.state_dict().values(), strict=True
        )
        assert all(torch.allclose(a, b) for a, b in pairs if a.is_floating_point())
    best = at_best_share(folds, fitted, STAGE)
    assert best.held_out.loss(best.after) <= fitted.held_out.loss(fitted.after)
    assert best.share in (0.25, 0.5, 0.75, 1.0)


def test_a_share_of_one_half_is_the_mean_of_the_weights(start: Classifier, folds: list[Fold]) -> None:
    end = cross_fit(folds, STAGE, SETTINGS).classifiers[0]
    half = interpolated(start, end, STAGE, 0.5)
    for name, tensor in half.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (start.state_dict()[name] + end.state_dict()[name]) / 2)
    assert interpolated(start, end, STAGE, 1.0) is end


def test_a_smaller_share_is_better_if_training_went_too_far(folds: list[Fold]) -> None:
    wrong = misleading(folds)
    fitted = cross_fit(wrong, Stage(STAGE.groups, 2, 0.05), SETTINGS)
    best = at_best_share(wrong, fitted, Stage(STAGE.groups, 2, 0.05))
    assert best.share == 0.25
    np.testing.assert_array_equal(best.after, predictions(best.classifiers, wrong))
