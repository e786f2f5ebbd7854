"""Stage plans are data: what is trained when, which parameters move, which never do."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from graft.backbones.backbone import build_backbone
from graft.core.errors import ParamsError
from graft.finetune.stage_plan import Stage, apply_freeze, hyper_rule, is_far, make_plan, parameter_groups
from graft.models.classifier import Classifier, Head, HeadSpec
from graft.runs.params import FineTuneParams

GROUPS = ("stem", *(f"blocks.{i}" for i in range(7)), "neck")


@pytest.fixture
def classifier() -> Classifier:
    backbone = build_backbone("tf_efficientnet_lite0", "none", image_size=32)
    return Classifier(backbone, Head(HeadSpec(taps=("neck",), features=1280), 3))


@given(
    n=st.integers(2, 40),
    images=st.integers(10, 10**6),
    strategy=st.sampled_from(["staged", "upper", "all"]),
    data=st.data(),
)
def test_a_plan_trains_ever_longer_upper_parts(n: int, images: int, strategy: str, data: st.DataObject) -> None:
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


def test_what_the_user_says_goes_before_the_rule() -> None:
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


def test_freezing_covers_gradients_and_norms(classifier: Classifier) -> None:
    apply_freeze(classifier, ("blocks.6", "neck"), train_norms=True)
    classifier.train()
    for name, group in zip(GROUPS, classifier.backbone.groups, strict=True):
        trained = name in ("blocks.6", "neck")
        assert all(parameter.requires_grad == trained for parameter in group.parameters())
        assert all(module.training == trained for module in group.modules())
    assert all(parameter.requires_grad for parameter in classifier.head.parameters())


def test_norms_of_trained_groups_may_stay_frozen(classifier: Classifier) -> None:
    apply_freeze(classifier, ("neck",), train_norms=False)
    classifier.train()
    neck = classifier.backbone.groups[-1]
    assert neck.training
    norms = [module for module in neck.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(module.training for module in norms)


def test_frozen_buffers_do_not_drift(classifier: Classifier) -> None:
    before = copy.deepcopy(classifier.backbone.state_dict())
    apply_freeze(classifier, ("neck",), train_norms=True)
    classifier.train()
    for _ in range(3):
        classifier(torch.randn(4, 3, 32, 32))
    after = classifier.backbone.state_dict()
    moved = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {str(len(GROUPS) - 1)}


def test_every_trained_parameter_is_in_one_group_with_its_rate(classifier: Classifier) -> None:
    stage = Stage(("blocks.5", "blocks.6", "neck"), epochs=1, lr=1.0)
    apply_freeze(classifier, stage.groups, train_norms=False)
    groups = parameter_groups(classifier, stage, layer_decay=0.5, weight_decay=0.1)
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in classifier.parameters() if p.requires_grad)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    expected = {"blocks.5": 0.25, "blocks.6": 0.5, "neck": 1.0}
    for name, group in zip(GROUPS, classifier.backbone.groups, strict=True):
        assert {rates[id(p)] for p in group.parameters() if p.requires_grad} == (
            {expected[name]} if name in expected else set()
        )
    assert {rates[id(p)] for p in classifier.head.parameters()} == {1.0}
    assert all(group["weight_decay"] == (0.1 if group["params"][0].ndim > 1 else 0.0) for group in groups)


@pytest.mark.parametrize(
    ("log_losses", "far"),
    [((1.3, 0.2, 0.365), True), ((1.2, 0.275, 0.295), False), ((0.6, 0.3, 0.1), False), ((0.4,), False)],
    ids=["digits", "flowers", "the last is best", "one group"],
)
def test_a_domain_is_far_where_the_last_group_lost_what_earlier_ones_knew(
    log_losses: tuple[float, ...], far: bool
) -> None:
    assert is_far(log_losses) is far
    plan = make_plan(GROUPS, 100, FineTuneParams(), best="blocks.5", pretrained=True, far=far)
    assert plan.persistent is far
