"""A stage is kept for a clear gain on images that nothing was chosen on; held against draws whose answer is known."""

import numpy as np
import pytest

from graft.finetune.stage_selection import (
    Comparison,
    HeldOut,
    Selection,
    Verdict,
    held_out_verdict,
    nothing_to_win,
    quantile,
    validation_verdict,
)
from tests.support.tasks import of_classes

TASK = of_classes(3)


def held_out(size: int, per_group: int = 1) -> HeldOut:
    groups = np.array([f"g{number // per_group}" for number in range(size)], dtype=object)
    return HeldOut(TASK, np.arange(size) % 3, groups)


def noise(images: HeldOut, generator: np.random.Generator) -> np.ndarray:
    """Standard normal logits (n, 3) that the images of a group share."""
    _, of_image = np.unique(images.groups, return_inverse=True)
    return generator.normal(0, 1, (of_image.max() + 1, 3))[of_image]


def draw(
    images: HeldOut, generator: np.random.Generator, better: float = 0.0, epochs: int = 4
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Logits before a stage and after each epoch: the noise changes, and epochs share most of its change.

    Whatever `better` is, the noise is as large after the stage as before.
    """
    right, own, common = np.eye(3)[images.targets], noise(images, generator), noise(images, generator)
    after = [0.8 * own + 0.6 * (0.8 * common + 0.6 * noise(images, generator)) for _ in range(epochs)]
    return (2 * right + own).astype(np.float32), [((2 + better) * right + each).astype(np.float32) for each in after]


def comparison(gain: float, error: float, **more: int | bool) -> Comparison:
    facts = {"right_before": 50, "right_after": 50, "less_accurate": False, "images": 60} | more
    return Comparison(gain=gain, error=error, loss_before=0.5, loss_after=0.5 - gain, **facts)  # type: ignore[arg-type]


def selected(images: HeldOut, before: np.ndarray, epochs: list[np.ndarray]) -> Selection:
    selection = Selection(images, before)
    for number, logits in enumerate(epochs, start=1):
        selection.offer(number, logits)
    return selection


def kept(found: Comparison) -> bool:
    return held_out_verdict(found, "validation", requested=False).kept


@pytest.mark.parametrize(
    ("size", "per_group", "draws"),
    [(120, 1, 40), *(pytest.param(*case, 200, marks=pytest.mark.slow) for case in ((120, 1), (160, 4)))],
)
def test_a_stage_of_nothing_but_noise_is_kept_in_one_draw_of_twenty_at_most(
    size: int, per_group: int, draws: int
) -> None:
    images, generator = held_out(size, per_group), np.random.default_rng(1)
    useless = [selected(images, *draw(images, generator)).comparison() for _ in range(draws)]
    assert sum(map(kept, useless)) <= 0.05 * draws + (1 if draws < 200 else 0)
    assert abs(np.mean([found.gain / found.error for found in useless])) < 0.3, "neither better nor worse"


def test_a_gain_that_is_called_visible_is_kept_in_four_of_five_draws() -> None:
    images, generator = held_out(120), np.random.default_rng(1)
    found = [selected(images, *draw(images, generator, better=0.55)).comparison() for _ in range(40)]
    gains = [each.gain for each in found]
    assert sum(map(kept, found)) >= 32
    visible = np.mean([each.visible() for each in found])
    assert visible == pytest.approx(np.mean(gains), rel=0.25), "about the gain of these draws"


def test_the_best_of_noisy_epochs_is_not_judged_on_what_it_was_chosen_on() -> None:
    images, generator = held_out(60), np.random.default_rng(2)
    found = [selected(images, *draw(images, generator, epochs=12)) for _ in range(30)]
    flattered = np.mean([each.loss_before - each.loss for each in found])
    gains = np.array([each.comparison().gain for each in found])
    assert flattered > 4 * gains.std() / np.sqrt(30), "the best of twelve looks better on the images that chose it"
    assert gains.mean() < flattered / 2, "most of that is luck, which other images do not share"


def test_whole_groups_are_parted_whatever_the_order_of_the_images() -> None:
    images = held_out(60, per_group=4)
    parts = images.parts(5)
    assert np.bincount(parts).tolist() == [12] * 5
    assert all(len({*parts[images.groups == group]}) == 1 for group in images.groups)
    order = np.random.default_rng(0).permutation(60)
    shuffled = HeldOut(TASK, images.targets[order], images.groups[order])
    np.testing.assert_array_equal(shuffled.parts(5), parts[order])


def test_over_confidence_is_no_harm() -> None:
    images, generator = held_out(90), np.random.default_rng(3)
    before, _ = draw(images, generator)
    selection = Selection(images, before)
    loss = selection.offer(1, 20 * before)
    assert loss == pytest.approx(selection.loss_before, abs=1e-4)
    assert selection.comparison().gain == pytest.approx(0.0, abs=1e-4)


def test_a_state_continues_as_if_never_interrupted() -> None:
    images, generator = held_out(30), np.random.default_rng(4)
    logits = draw(images, generator)[1]
    whole, begun = Selection(images, logits[0]), Selection(images, logits[0])
    whole.offer(1, logits[1])
    begun.offer(1, logits[1])
    resumed = Selection(images, logits[0])
    resumed.restore(begun.state())
    for selection in (whole, resumed):
        selection.offer(2, logits[2])
    assert resumed.comparison() == whole.comparison()
    assert (resumed.best, resumed.loss) == (whole.best, whole.loss)


def test_the_reason_names_gain_error_and_what_would_have_been_seen() -> None:
    found = held_out_verdict(comparison(0.1, 0.03), "validation", requested=False)
    assert found == Verdict(
        True,
        "kept; validation images: log loss 0.500 -> 0.400 (gain 0.100, standard error 0.030, visible from 0.085 on), "
        "right 50 -> 50 of 60",
    )
    assert held_out_verdict(comparison(0.04, 0.03), "validation", requested=False).reason.startswith(
        "rolled back: no clear gain; validation images"
    )


def test_one_image_does_not_veto_a_stage_and_many_do() -> None:
    images = held_out(60)
    targets = np.arange(60) % 3
    before = np.eye(3, dtype=np.float32)[targets]

    def with_wrong(count: int) -> Comparison:
        after = 4 * before
        after[:count] = np.roll(before[:count], 1, axis=1) / 10
        return Comparison.of(images, before, after)

    assert held_out_verdict(with_wrong(1), "validation", requested=False).kept
    refused = held_out_verdict(with_wrong(12), "validation", requested=False)
    assert not refused.kept
    assert refused.reason.startswith("rolled back: clearly fewer right answers")
    assert refused.reason.endswith("right 60 -> 48 of 60")


def test_the_best_of_two_stages_needs_more() -> None:
    between = comparison((quantile(1) + quantile(2)) / 2, 1.0)
    assert held_out_verdict(between, "validation", requested=False, tried=1).kept
    assert not held_out_verdict(between, "validation", requested=False, tried=2).kept


@pytest.mark.parametrize(("gain", "brought"), [(0.2, "a clear gain"), (0.01, "no clear gain"), (-0.2, "clearly worse")])
def test_a_requested_stage_is_kept_and_told_what_it_brought(gain: float, brought: str) -> None:
    found = held_out_verdict(comparison(gain, 0.05), "cross_validation", requested=True)
    assert found.kept
    assert found.reason.startswith(f"kept as asked for ({brought}); held-out training images: log loss")


def test_validation_images_stop_only_what_is_clearly_worse_there() -> None:
    of_folds = Verdict(True, "kept; x")
    assert validation_verdict(comparison(-0.01, 0.05), of_folds, requested=False).kept
    worse = validation_verdict(comparison(-0.2, 0.05), of_folds, requested=False)
    assert not worse.kept
    assert worse.reason.startswith("rolled back: worse on validation: log loss")
    assert worse.reason.endswith("; x")
    assert validation_verdict(comparison(-0.2, 0.05), of_folds, requested=True).kept


def test_a_trial_goes_on_if_half_as_much_again_and_a_standard_error_would_be_clear() -> None:
    assert comparison(0.035, 0.05).on_the_way(60, tried=1)
    assert not comparison(0.03, 0.05).on_the_way(60, tried=1)
    assert comparison(0.02, 0.05).on_the_way(120, tried=1), "twice as many images will judge, so less is clear"
    assert not comparison(0.1, 0.05, less_accurate=True).on_the_way(60, tried=1)


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
