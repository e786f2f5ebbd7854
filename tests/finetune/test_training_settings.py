"""Settings are derived from parameters and plan, without images."""

import numpy as np
import pytest

from graft.finetune.stage_plan import make_plan
from graft.finetune.training_settings import training_settings
from graft.params.fine_tune import FineTuneParams

PARAMS = FineTuneParams(batch_size=9, layer_decay=0.5, weight_decay=0.2, l2_sp=3.0, label_smoothing=0.1, seed=5)


def test_settings_follow_the_parameters() -> None:
    plan = make_plan(("a", "b"), 100, PARAMS, best="b", pretrained=True)
    weight = np.array([0.5, 1.5])
    found = training_settings(PARAMS, plan, weight, pretrained=True)
    assert (found.batch_size, found.weight_decay, found.label_smoothing, found.seed) == (9, 0.2, 0.1, 5)
    assert (found.layer_decay, found.l2_sp, found.train_norms) == (0.5, 3.0, False)
    assert (found.mixup, found.norms_only) == (0.0, False)
    assert found.label_weights is weight


def test_random_weights_are_not_pulled_to_their_start() -> None:
    plan = make_plan(("a", "b"), 100, PARAMS, best="b", pretrained=False)
    found = training_settings(PARAMS, plan, None, pretrained=False)
    assert (found.layer_decay, found.l2_sp, found.train_norms) == (1.0, 0.0, True)


def test_statistics_mixtures_and_what_is_trained_are_chosen() -> None:
    params = PARAMS.model_copy(update={"norms": "adapted", "weights": "norms", "mixup": 0.4})
    plan = make_plan(("a", "b"), 100, params, best="b", pretrained=True)
    found = training_settings(params, plan, None, pretrained=True)
    assert (found.train_norms, found.norms_only, found.mixup) == (True, True, 0.4)
    frozen = params.model_copy(update={"norms": "frozen"})
    assert not training_settings(frozen, plan, None, pretrained=False).train_norms


@pytest.mark.parametrize(("augment", "views"), [("light", 4), ("none", 1)])
def test_there_are_as_many_views_as_planned(augment: str, views: int) -> None:
    params = FineTuneParams(augment=augment)
    plan = make_plan(("a", "b"), 100, params, best="b", pretrained=True)
    assert training_settings(params, plan, None, pretrained=True).views == views
