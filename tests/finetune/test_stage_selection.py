"""Stages are judged by the paired difference in log loss and by the number of right answers."""

import numpy as np
import pytest

from graft.finetune.cross_fitting import CrossFitted
from graft.finetune.stage_selection import Verdict, held_out_verdict, validation_verdict
from tests.support.tasks import of_classes


def _fitted(before: np.ndarray, after: np.ndarray, targets: np.ndarray, best_epoch: int = 1) -> CrossFitted:
    before, after = before.astype(np.float32), after.astype(np.float32)
    return CrossFitted((), before, after, targets, of_classes(before.shape[1]), best_epoch, (0.1,), (0.1,))


@pytest.mark.parametrize(
    ("sharper", "best_epoch", "kept", "reason"),
    [
        (3.0, 1, True, "kept; validation images: log loss"),
        (1.001, 1, False, "no clear gain"),
        (3.0, 0, False, "no epoch"),
    ],
)
def test_a_stage_is_judged_by_the_paired_difference(sharper: float, best_epoch: int, kept: bool, reason: str) -> None:
    generator = np.random.default_rng(0)
    targets = np.arange(60) % 2
    before = np.stack([-(2.0 * targets - 1), 2.0 * targets - 1], axis=1) + generator.normal(0, 0.2, (60, 2))
    noise = generator.normal(0, 0.3, (60, 1)) if sharper < 2 else 0.0
    fitted = _fitted(before, before * (sharper + noise), targets, best_epoch)
    found = held_out_verdict(fitted, "validation", requested=False)
    assert found.kept == kept
    assert reason in found.reason


def test_a_stage_with_more_wrong_answers_is_not_kept() -> None:
    targets = np.arange(60) % 2
    before = 0.1 * np.stack([-(2.0 * targets - 1), 2.0 * targets - 1], axis=1)
    after = 40 * before
    after[0] = after[0][::-1] * 0.01
    found = held_out_verdict(_fitted(before, after, targets), "validation", requested=True)
    assert not found.kept
    assert "right 60 -> 59 of 60" in found.reason
    of_folds = Verdict(True, "kept; x")
    found = validation_verdict(
        of_classes(before.shape[1]), before.astype(np.float32), after.astype(np.float32), targets, of_folds
    )
    assert not found.kept
    assert found.reason.startswith("rolled back: worse on validation: log loss")
    assert found.reason.endswith("; x")
    found = validation_verdict(
        of_classes(before.shape[1]), before.astype(np.float32), 2 * before.astype(np.float32), targets, of_folds
    )
    assert found.kept
    assert found.reason.startswith("kept; x; validation: log loss")


def test_a_requested_stage_only_has_to_be_no_worse() -> None:
    generator = np.random.default_rng(0)
    targets = np.arange(60) % 2
    before = np.stack([-(2.0 * targets - 1), 2.0 * targets - 1], axis=1)
    fitted = _fitted(before, before * (1.02 + generator.normal(0, 0.2, (60, 1))), targets)
    assert fitted.loss < fitted.start_loss, "a gain, but smaller than its standard error"
    assert held_out_verdict(fitted, "cross_validation", requested=True).kept
    found = held_out_verdict(fitted, "cross_validation", requested=False)
    assert not found.kept
    assert "no clear gain; held-out training images: log loss" in found.reason
