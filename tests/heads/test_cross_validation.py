"""Cross-validation: what it may and may not see, which images it can judge."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.heads import cross_validation
from graft.heads.cross_validation import cross_validate, judged_rows, make_folds
from graft.heads.depth_selection import choose_head
from graft.heads.full_fit import FullFit, fit_to_all_images
from graft.heads.head_inputs import prepare_head_inputs
from graft.heads.linear_probe import PENALTIES
from graft.params.train_head import TrainHeadParams
from tests.support.features import blobs, write_store
from tests.support.tasks import of_classes


def single(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def test_the_path_ends_when_weaker_penalties_hurt() -> None:
    features, targets = blobs(60, 200, 2, noise=2.0)
    found = cross_validate(features, targets, of_classes(2), make_folds(targets, single(60), 5, 0))
    assert len(found.penalties) <= len(PENALTIES)
    assert found.penalty == found.penalties[int(np.argmin(found.path_losses))]
    assert found.loss.mean() == pytest.approx(min(found.path_losses))
    np.testing.assert_allclose(found.probabilities.sum(1), 1.0)


@given(groups=st.lists(st.integers(0, 20), min_size=20, max_size=60), seed=st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_folds_keep_groups_together(groups: list[int], seed: int) -> None:
    # group g is of class g % 2, and both classes have two groups at least
    groups = [*groups, 0, 1, 2, 3]
    targets = np.array([group % 2 for group in groups])
    folds = make_folds(targets, [str(group) for group in groups], 5, seed)
    held = np.concatenate([held_out for _, held_out in folds])
    assert sorted(held) == list(range(len(groups)))
    for train, held_out in folds:
        assert not {groups[i] for i in train} & {groups[i] for i in held_out}


def test_a_large_problem_chooses_its_penalty_on_one_fold_and_predicts_all(monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = blobs(200, 20, 4, noise=3.0)
    folds = make_folds(targets, single(200), 4, 0)
    small = cross_validate(features, targets, of_classes(4), folds)
    monkeypatch.setattr(cross_validation, "LARGE", 0)
    large = cross_validate(features, targets, of_classes(4), folds)
    assert large.probabilities.sum(1) == pytest.approx(1.0)
    assert large.loss.mean() == pytest.approx(small.loss.mean(), abs=0.05)


def test_a_class_with_a_single_group_neither_forces_two_folds_nor_is_judged() -> None:
    strata = np.array([0] * 20 + [1] * 20 + [2] * 5)
    groups = [str(i) for i in range(40)] + ["video"] * 5
    folds = make_folds(strata, groups, 5, 0)
    assert len(folds) == 5
    np.testing.assert_array_equal(judged_rows(strata, folds), strata < 2)


def test_single_images_are_divided_without_a_warning_and_judged_if_nothing_else_can_be() -> None:
    strata = np.array([0] * 10 + [1] * 10 + [2])
    folds = make_folds(strata, single(21), 5, 0)
    np.testing.assert_array_equal(judged_rows(strata, folds), strata < 2)
    alone = make_folds(np.arange(6), single(6), 5, 0)
    assert [len(held_out) for _, held_out in alone] == [3, 3]
    assert judged_rows(np.arange(6), alone).all()


def with_a_video(folder: Path, share: float) -> FullFit:
    """A head on three overlapping classes, and one more that is a single video: this share of the training images."""
    features, targets = blobs(480, 20, 3, noise=2.5)
    number = round(share * 480 / (1 - share))
    video = 5 + 3 * np.random.default_rng(1).normal(2, 0.2, (number, 20))
    features, targets = np.concatenate([features, video.astype(np.float32)]), np.append(targets, np.full(number, 3))
    groups = np.minimum(np.arange(len(targets)), 480)
    inputs = prepare_head_inputs(write_store(folder, {"a": features}, targets, groups), TrainHeadParams())
    choice = choose_head(inputs, "auto", "linear")
    left_out = int((inputs.targets == 3).sum())
    assert ("single group" in choice.reason) == (left_out > 0)
    assert len(choice.cross_validated.loss) == len(inputs.rows) - left_out
    if left_out:
        assert f"{left_out} images of 1 class with a single group left out of every comparison" in choice.reason
    return fit_to_all_images(inputs, choice)


def test_classes_with_a_single_group_do_not_change_the_temperature(tmp_path: Path) -> None:
    plain = with_a_video(tmp_path / "none", 0.0)
    for share in (0.025, 0.05, 0.1):
        found = with_a_video(tmp_path / str(share), share)
        assert found.temperature == pytest.approx(plain.temperature, rel=0.2), share
        assert found.l2 <= 10 * plain.l2
