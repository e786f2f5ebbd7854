"""A stage is kept for a clear gain on images that it has not seen; how often it is wrong, `tests/truth` shows."""

from dataclasses import replace

import numpy as np
import pytest

from graft.finetune.stage_verdict import (
    Comparison,
    HeldOut,
    Verdict,
    held_out_verdict,
    nothing_to_win,
    quantile,
    validation_verdict,
)
from graft.tasks.joint import Joint
from graft.tasks.single_label import SingleLabel
from tests.support.tasks import of_classes

TASK = of_classes(3)


def held_out(size: int, per_group: int = 1) -> HeldOut:
    groups = np.array([f"g{number // per_group}" for number in range(size)], dtype=object)
    return HeldOut(TASK, np.arange(size) % 3, groups)


def logits(images: HeldOut, signal: float = 2.0, seed: int = 0) -> np.ndarray:
    """Logits (n, 3) that are right more or less often."""
    noise = np.random.default_rng(seed).normal(size=(len(images.targets), 3))
    return (signal * np.eye(3)[images.targets] + noise).astype(np.float32)


def comparison(gain: float, error: float, **more: int | bool) -> Comparison:
    facts = {"right_before": 50, "right_after": 50, "less_accurate": False, "images": 60, "independent": 60} | more
    return Comparison(gain=gain, error=error, loss_before=0.5, loss_after=0.5 - gain, **facts)  # type: ignore[arg-type]


def verdict(found: Comparison, with_head: Comparison | None = None, tried: int = 1) -> Verdict:
    return held_out_verdict(found, with_head or found, "validation", requested=False, tried=tried)


def test_over_confidence_is_no_harm() -> None:
    images = held_out(90)
    before = logits(images)
    found = images.compare(before, 20 * before)
    assert found.gain == pytest.approx(0.0, abs=1e-4)
    assert images.loss(20 * before) == pytest.approx(images.loss(before), abs=1e-4)


def test_a_gain_has_the_error_of_the_pairs_and_of_two_temperatures() -> None:
    images = held_out(90)
    found = images.compare(logits(images), logits(images, signal=2.5))
    same = images.compare(logits(images), logits(images))
    assert found.gain > 2 * found.error
    assert (same.gain, same.error) == (0.0, pytest.approx(1 / 90))


def test_images_of_one_group_count_once() -> None:
    one_each, videos = held_out(90), held_out(90, per_group=9)
    before, after = logits(one_each), logits(one_each, signal=3.0, seed=1)
    alone, together = one_each.compare(before, after), videos.compare(before, after)
    assert alone.gain == together.gain
    assert (alone.independent, together.independent) == (90, 10)
    assert quantile(1, 10) > quantile(1, 90)
    assert not HeldOut(TASK, one_each.targets, np.full(90, "video", dtype=object)).compare(before, after).clear()


def test_the_reason_names_gain_error_and_what_would_have_been_seen() -> None:
    assert verdict(comparison(0.1, 0.03)) == Verdict(
        True,
        "kept; validation images: log loss 0.500 -> 0.400 (gain 0.100, standard error 0.030, visible from 0.075 on), "
        "right 50 -> 50 of 60",
    )
    assert verdict(comparison(0.04, 0.03)).reason.startswith("rolled back: no clear gain; validation images")


def test_a_later_stage_must_beat_the_best_so_far_and_the_head() -> None:
    found = comparison(0.1, 0.03)
    beaten = verdict(found, replace(found, gain=0.2))
    assert beaten.kept
    assert "; against the head: log loss" in beaten.reason
    assert not verdict(found, replace(found, gain=0.01)).kept
    assert not verdict(replace(found, gain=0.01), found).kept
    assert not verdict(found, replace(found, less_accurate=True)).kept


def test_one_image_does_not_veto_a_stage_and_many_do() -> None:
    images = held_out(60)
    before = np.eye(3, dtype=np.float32)[images.targets]
    before[-6:] = 0.0

    def with_wrong(count: int) -> Comparison:
        after = 4 * np.eye(3, dtype=np.float32)[images.targets]
        after[:count] = np.roll(before[:count], 1, axis=1) / 10
        return images.compare(before, after)

    assert verdict(with_wrong(1)).kept
    refused = verdict(with_wrong(20))
    assert not refused.kept
    assert refused.reason.startswith("rolled back: clearly fewer right answers")


def test_the_best_of_two_stages_needs_more() -> None:
    between = comparison((quantile(1, 60) + quantile(2, 60)) / 2, 1.0)
    assert verdict(between).kept
    assert not verdict(between, tried=2).kept


@pytest.mark.parametrize(("gain", "brought"), [(0.2, "a clear gain"), (0.01, "no clear gain"), (-0.2, "clearly worse")])
def test_a_requested_stage_is_kept_and_told_what_it_brought(gain: float, brought: str) -> None:
    found = comparison(gain, 0.05)
    kept = held_out_verdict(found, found, "cross_validation", requested=True)
    assert kept.kept
    assert kept.reason.startswith(f"kept as asked for ({brought}); held-out training images: log loss")


def test_validation_images_stop_only_what_is_clearly_worse_there() -> None:
    of_folds = Verdict(True, "kept; x")
    assert validation_verdict(comparison(-0.01, 0.05), of_folds, requested=False).kept
    worse = validation_verdict(comparison(-0.2, 0.05), of_folds, requested=False)
    assert not worse.kept
    assert worse.reason.startswith("rolled back: worse on validation: log loss")
    assert worse.reason.endswith("; x")
    assert validation_verdict(comparison(-0.2, 0.05), of_folds, requested=True).kept


@pytest.mark.parametrize(
    ("wrong", "told"), [(2, "2 of 480 wrong: nothing to win"), (5, "5 of 480 wrong: nothing to win"), (24, "")]
)
def test_with_few_errors_there_is_nothing_to_win(wrong: int, told: str) -> None:
    images = held_out(480)
    probabilities = TASK.probabilities(6.0 * np.eye(3)[images.targets])
    probabilities[:wrong] = np.roll(probabilities[:wrong], 1, axis=1)
    assert nothing_to_win(TASK, probabilities, images.targets, images.groups) == told
    one_group = np.full(480, "video", dtype=object)
    assert nothing_to_win(TASK, probabilities, images.targets, one_group), "one group shows nothing"


def test_of_several_tasks_one_must_gain_and_none_may_lose() -> None:
    first = SingleLabel(name="first", labels=("a", "b"), column="first")
    second = SingleLabel(name="second", labels=("c", "d"), column="second")
    joint = Joint.of((first, second), (False, False))
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (400, 2))
    held = HeldOut(joint, truth.astype(np.float64), np.arange(400).astype(str).astype(object))

    def answers(*shares: float) -> np.ndarray:
        """Each task's answers are right on this share of the images."""
        draws = np.random.default_rng(1).random((400, 2))
        sides = [np.where(draws[:, k] < share, truth[:, k], 1 - truth[:, k]) for k, share in enumerate(shares)]
        return np.concatenate([np.eye(2)[side] * 2 for side in sides], axis=1).astype(np.float32)

    before = answers(0.7, 0.7)
    assert held.compare(before, answers(0.9, 0.7)).clear()
    assert not held.compare(before, answers(0.9, 0.6)).clear()
    assert not held.compare(before, before).clear()
    assert "first: log loss" in held.compare(before, answers(0.9, 0.7)).describe()
    assert held.compare(before, answers(0.9, 0.5)).clearly_worse
