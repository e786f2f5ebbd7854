"""Stage plans: what is trained when, derived by pure rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.core.errors import ParamsError
from graft.finetune.stage_plan import FAR_RATE, best_group, hyper_rule, is_far, make_plan
from graft.params.fine_tune import FineTuneParams

GROUPS = ("stem", *(f"blocks.{i}" for i in range(7)), "neck")


@given(
    n=st.integers(2, 40),
    images=st.integers(10, 10**6),
    strategy=st.sampled_from(["staged", "upper", "all"]),
    data=st.data(),
)
def test_each_stage_trains_more_upper_groups(n: int, images: int, strategy: str, data: st.DataObject) -> None:
    groups = tuple(f"g{i}" for i in range(n))
    depth = data.draw(st.sampled_from(["auto", *groups]))
    best = data.draw(st.sampled_from(groups))
    plan = make_plan(groups, images, FineTuneParams(strategy=strategy, depth=depth), best=best, pretrained=True)
    assert plan.stages
    for stage in plan.stages:
        assert stage.groups == groups[groups.index(stage.name) :]
        assert stage.epochs > 0
        assert stage.lr > 0
    lengths = [len(stage.groups) for stage in plan.stages]
    assert lengths == sorted(set(lengths))
    if strategy == "all":
        assert lengths == [n]
    elif depth != "auto":
        assert plan.stages[-1].name == depth


def test_a_depth_that_is_not_reused_is_refused() -> None:
    with pytest.raises(
        ParamsError, match=r"fine_tune.depth='blocks.9': expected auto or a reused group: stem, blocks.0"
    ):
        make_plan(GROUPS, 100, FineTuneParams(depth="blocks.9"), best="neck", pretrained=True)


def test_parameters_override_the_rule() -> None:
    params = FineTuneParams(epochs=3, lr=0.5, augment="none")
    plan = make_plan(GROUPS, 100, params, best="neck", pretrained=True)
    assert {(stage.epochs, stage.lr) for stage in plan.stages} == {(3, 0.5)}
    assert plan.augment == "none"
    assert plan.views == 1


@given(few=st.integers(1, 10**6), more=st.integers(1, 10**6))
def test_more_images_need_no_more_epochs(few: int, more: int) -> None:
    few, more = sorted((few, more))
    assert hyper_rule(few, pretrained=True).epochs >= hyper_rule(more, pretrained=True).epochs


def test_random_weights_are_trained_longer() -> None:
    assert hyper_rule(800, pretrained=False).epochs > hyper_rule(800, pretrained=True).epochs


@pytest.mark.parametrize(
    ("behind", "error", "far"),
    [(0.166, 0.02, True), (0.02, 0.01, False), (0.006, 0.001, False), (0.166, 0.1, False), (0.0, 0.0, False)],
    ids=["digits", "flowers", "cats and dogs: clear but tiny", "not clear", "the last is best"],
)
def test_a_domain_is_far_if_the_last_group_is_clearly_worse_than_earlier_ones(
    behind: float, error: float, far: bool
) -> None:
    assert is_far(behind, error) is far
    plan = make_plan(GROUPS, 100, FineTuneParams(), best="blocks.5", pretrained=True, far=far)
    assert plan.persistent is far
    assert plan.stages[0].lr == (FAR_RATE if far else hyper_rule(100, pretrained=True).lr)
    asked = make_plan(GROUPS, 100, FineTuneParams(lr=1e-4), best="blocks.5", pretrained=True, far=far)
    assert asked.stages[0].lr == 1e-4
    untrained = make_plan(GROUPS, 100, FineTuneParams(), best="blocks.5", pretrained=False, far=far)
    assert untrained.stages[0].lr == hyper_rule(100, pretrained=False).lr


def test_training_starts_at_the_best_single_group() -> None:
    curve = {"stem": 0.9, "blocks.0": 0.3, "blocks.1": 0.3, "neck": 0.1}
    assert best_group(("stem", "blocks.0", "blocks.1", "neck"), curve) == "neck"
    assert best_group(("stem", "blocks.0", "blocks.1"), curve) == "blocks.0", "the first of equals among those reused"


def test_without_validation_images_folds_judge_and_nothing_is_refit() -> None:
    for strategy, images in (("staged", 2_000), ("upper", 100)):
        params = FineTuneParams(strategy=strategy, refit=True)
        plan = make_plan(GROUPS, images, params, best="blocks.5", pretrained=True, validation=False)
        assert (plan.folds, plan.refit) == (4, False)


def test_only_stages_that_nobody_asked_for_race() -> None:
    def raced(strategy: str, *, pretrained: bool = True) -> bool:
        return make_plan(GROUPS, 100, FineTuneParams(strategy=strategy), best="neck", pretrained=pretrained).raced

    assert raced("staged")
    assert not raced("upper")
    assert not raced("staged", pretrained=False)


@pytest.mark.parametrize(
    ("strategy", "requested", "folds"),
    [("staged", False, 4), ("upper", True, 0), ("all", True, 0), ("surgical", True, 0)],
)
def test_requested_stages_are_not_cross_validated(strategy: str, requested: bool, folds: int) -> None:
    plan = make_plan(GROUPS, 100, FineTuneParams(strategy=strategy), best="blocks.5", pretrained=True)
    assert (plan.requested, plan.folds) == (requested, folds)
    asked = FineTuneParams(strategy=strategy, folds=3, wise_ft=True)
    assert make_plan(GROUPS, 100, asked, best="blocks.5", pretrained=True).folds == 3
    assert make_plan(GROUPS, 100, asked, best="blocks.5", pretrained=True).wise_ft


def test_fewer_images_are_judged_by_more_folds() -> None:
    assert [hyper_rule(images, pretrained=True).folds for images in (499, 500, 1_999, 2_000)] == [4, 2, 2, 0]


def test_the_log_records_the_plan() -> None:
    plan = make_plan(GROUPS, 100, FineTuneParams(strategy="surgical"), best="blocks.5", pretrained=True)
    assert plan.summary == {"stages": ["blocks.5"], "augment": "light", "views": 4}


@pytest.mark.parametrize(
    ("augment", "flip", "several"), [("none", False, False), ("none", True, True), ("light", False, True)]
)
def test_mirroring_alone_needs_several_views_too(augment: str, flip: bool, several: bool) -> None:
    params = FineTuneParams(augment=augment, flip=flip)
    plan = make_plan(GROUPS, 100, params, best="neck", pretrained=True)
    assert (plan.views > 1) is several, "with one view an image would always or never be mirrored"
