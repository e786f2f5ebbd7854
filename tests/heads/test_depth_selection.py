"""How much of the backbone to reuse: decided on training images, by paired differences."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graft.backbones.feature_store import FeatureStore
from graft.backbones.pretrained_classifier import SourceClassifier
from graft.core.errors import ParamsError
from graft.heads import kind_selection
from graft.heads.depth_selection import choose_head, shallowest_equivalent_tap
from graft.heads.head_inputs import prepare_head_inputs
from graft.heads.ridge import RidgeProbe
from graft.params.train_head import TrainHeadParams
from graft.stats.paired_difference import paired_difference
from tests.support.features import noisy_tap, write_store

N = 160


@pytest.fixture
def targets() -> np.ndarray:
    return (np.arange(N) // 2 % 2).astype(np.int64)


def test_the_best_group_is_found_below_the_last(tmp_path: Path, targets: np.ndarray) -> None:
    taps = {"a": noisy_tap(targets, 0.1, 0), "b": noisy_tap(targets, 1.5, 1), "c": noisy_tap(targets, 0.3, 2)}
    choice = choose_head(prepare_head_inputs(write_store(tmp_path, taps, targets), TrainHeadParams()), "auto", "linear")
    assert choice.taps == ("b",)
    assert set(choice.curve) == {"a", "b", "c"}
    assert "least held-out log loss" in choice.reason


def test_the_shallower_of_equivalent_groups_is_taken(tmp_path: Path, targets: np.ndarray) -> None:
    good = noisy_tap(targets, 1.0, 1)
    taps = {"a": noisy_tap(targets, 0.1, 0), "b": good, "c": good}
    assert choose_head(
        prepare_head_inputs(write_store(tmp_path, taps, targets), TrainHeadParams()), "auto", "linear"
    ).taps == ("b",)


def test_a_head_reads_several_groups_with_complementary_features(tmp_path: Path, targets: np.ndarray) -> None:
    # each of two groups knows one half of the images
    first, second = noisy_tap(targets, 0.0, 0), noisy_tap(targets, 0.0, 1)
    half = np.arange(N) % 2 == 0
    first[half, 0] += 4 * (2 * targets[half] - 1)
    second[~half, 0] += 4 * (2 * targets[~half] - 1)
    inputs = prepare_head_inputs(write_store(tmp_path, {"a": first, "b": second}, targets), TrainHeadParams())
    choice = choose_head(inputs, "auto", "auto")
    assert choice.taps == ("a", "b")
    assert "2 groups together" in choice.reason
    assert choice.cross_validated.loss.mean() < min(found.loss.mean() for found in choice.curve.values())


def test_one_group_is_enough_if_more_add_nothing(tmp_path: Path, targets: np.ndarray) -> None:
    taps = {"a": noisy_tap(targets, 0.0, 0), "b": noisy_tap(targets, 1.5, 1)}
    choice = choose_head(prepare_head_inputs(write_store(tmp_path, taps, targets), TrainHeadParams()), "auto", "auto")
    assert choice.taps == ("b",)
    assert "no clear gain" in choice.reason


def test_several_groups_must_beat_the_best_one_and_not_the_one_that_is_taken(tmp_path: Path) -> None:
    """The group that is taken may be a standard error worse than the best: that is no merit of several together."""
    won = 0
    for seed in range(10):
        targets = (np.random.default_rng(seed).permutation(N) % 2).astype(np.int64)
        good = noisy_tap(targets, 0.35, seed)
        worse = (good + 0.35 * noisy_tap(targets, 0.0, 100 + seed)).astype(np.float32)
        store = write_store(tmp_path / str(seed), {"a": worse, "b": good}, targets)
        choice = choose_head(prepare_head_inputs(store, TrainHeadParams()), "auto", "auto")
        best = min(choice.curve, key=lambda tap: choice.curve[tap].loss.mean())
        assert f"of {best}, the best single one" in choice.reason
        won += len(choice.taps) > 1
    assert won <= 2


@pytest.mark.parametrize(("asked", "taps"), [("last", ("c",)), ("a", ("a",))])
def test_a_requested_depth_is_taken(tmp_path: Path, targets: np.ndarray, asked: str, taps: tuple[str, ...]) -> None:
    store = write_store(tmp_path, {name: noisy_tap(targets, 1.0, seed) for seed, name in enumerate("abc")}, targets)
    assert choose_head(prepare_head_inputs(store, TrainHeadParams()), asked, "auto").taps == taps


def test_an_unknown_depth_is_refused(tmp_path: Path, targets: np.ndarray) -> None:
    store = write_store(tmp_path, {"a": noisy_tap(targets, 1.0, 0)}, targets)
    with pytest.raises(ParamsError, match=r"train_head.reuse_depth='z': expected auto, last or one of a"):
        choose_head(prepare_head_inputs(store, TrainHeadParams()), "z", "auto")


def test_test_and_validation_images_do_not_affect_the_choice(tmp_path: Path, targets: np.ndarray) -> None:
    taps = {"a": noisy_tap(targets, 0.4, 0), "b": noisy_tap(targets, 0.6, 1)}
    first = choose_head(
        prepare_head_inputs(write_store(tmp_path / "x", taps, targets), TrainHeadParams()), "auto", "auto"
    )
    held_out = np.arange(N) % 8 >= 6
    spoilt = {name: np.where(held_out[:, None], 1e3, tap).astype(np.float32) for name, tap in taps.items()}
    second = choose_head(
        prepare_head_inputs(write_store(tmp_path / "y", spoilt, targets), TrainHeadParams()), "auto", "auto"
    )
    assert first.taps == second.taps
    np.testing.assert_array_equal(first.cross_validated.probabilities, second.cross_validated.probabilities)


def test_imbalance_weights_the_classes(tmp_path: Path) -> None:
    targets = (np.arange(N) % 8 == 0).astype(np.int64)
    store = write_store(tmp_path, {"a": noisy_tap(targets, 1.0, 0)}, targets)
    assert prepare_head_inputs(store, TrainHeadParams(class_weight="none")).label_weights is None
    weight = prepare_head_inputs(store, TrainHeadParams()).label_weights
    assert weight is not None
    assert weight[1] > weight[0]


def test_equals_by_one_standard_error() -> None:
    def probe(p: np.ndarray) -> RidgeProbe:
        return RidgeProbe(0.1, -np.log(p), p > 0.5)

    generator = np.random.default_rng(0)
    p = generator.uniform(0.6, 0.9, 100)
    close = np.clip(p + np.where(np.arange(100) % 2, 0.05, -0.052), 0.05, 0.95)
    curve = {"a": probe(p - 0.2), "b": probe(close), "c": probe(p)}
    assert shallowest_equivalent_tap(curve, np.arange(100).astype(object))[0] == "b"


def _quarters(targets: np.ndarray, seed: int) -> np.ndarray:
    """A feature space in which the classes are not linearly separable."""
    noise = np.random.default_rng(seed).normal(0, 1, (len(targets), 2))
    side = np.where(noise[:, 0] > 0, 1.0, -1.0) * (2 * targets - 1)
    return np.stack([noise[:, 0], np.abs(noise[:, 1]) * side], axis=1).astype(np.float32)


def _loud(targets: np.ndarray, seed: int) -> np.ndarray:
    """Features whose direction determines the class, and whose length does not."""
    generator = np.random.default_rng(seed)
    tap = generator.normal(0, 1, (len(targets), 30))
    tap[:, :4] += 2 * targets[:, None] - 1
    return (tap * np.exp(generator.normal(0, 1.5, (len(targets), 1)))).astype(np.float32)


@pytest.mark.parametrize(("made", "kind"), [(_quarters, "mlp"), (_loud, "cosine")])
def test_another_kind_of_head_is_taken_if_it_is_clearly_better(
    tmp_path: Path, made: Callable[[np.ndarray, int], np.ndarray], kind: str
) -> None:
    targets = (np.arange(400) // 2 % 2).astype(np.int64)
    choice = choose_head(
        prepare_head_inputs(write_store(tmp_path, {"a": made(targets, 0)}, targets), TrainHeadParams()), "auto", "auto"
    )
    assert choice.kind == kind
    assert {"linear", kind} <= set(choice.heads)
    gain, error = paired_difference(choice.heads["linear"].loss, choice.cross_validated.loss)
    assert gain > error
    assert f"{kind} head: log loss {choice.cross_validated.loss.mean():.3f} against" in choice.reason


def test_the_kinds_are_compared_on_a_subsample_of_many_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind_selection, "MOST_COMPARED", 150)
    targets = (np.arange(600) // 2 % 2).astype(np.int64)
    inputs = prepare_head_inputs(write_store(tmp_path, {"a": _quarters(targets, 0)}, targets), TrainHeadParams())
    part = inputs.subsample(150)
    assert len(part.rows) == len(part.targets) == 150
    held = np.concatenate([out for _, out in part.folds])
    assert sorted(held) == list(range(150))
    for (train, out), (whole, _) in zip(part.folds, inputs.folds, strict=True):
        assert not set(train) & set(out)
        assert set(part.rows[train]) <= set(inputs.rows[whole])
    choice = choose_head(inputs, "auto", "auto")
    assert choice.kind == "mlp"
    assert "on 150 images" in choice.reason
    assert len(choice.heads["mlp"].targets) == 150
    assert len(choice.cross_validated.targets) == len(inputs.rows)
    assert len(choose_head(inputs, "auto", "mlp").heads["linear"].targets) == len(inputs.rows)


def test_a_linear_head_is_taken_if_no_other_is_clearly_better(tmp_path: Path, targets: np.ndarray) -> None:
    # the distance from the middle determines the confidence, and an angle does not see it
    taps = {"a": noisy_tap(targets, 0.0, 0, width=2), "b": noisy_tap(targets, 0.8, 1, width=2)}
    choice = choose_head(prepare_head_inputs(write_store(tmp_path, taps, targets), TrainHeadParams()), "auto", "auto")
    assert (choice.kind, choice.taps) == ("linear", ("b",))
    assert not choice.heads
    assert "not fitted, by ridge regression in their place: cosine worse by" in choice.reason


@pytest.mark.parametrize("head", ["mlp", "cosine"])
def test_a_requested_kind_is_taken_on_the_best_groups(tmp_path: Path, targets: np.ndarray, head: str) -> None:
    taps = {"a": noisy_tap(targets, 0.1, 0), "b": noisy_tap(targets, 1.5, 1), "c": noisy_tap(targets, 0.3, 2)}
    inputs = prepare_head_inputs(write_store(tmp_path, taps, targets), TrainHeadParams())
    choice = choose_head(inputs, "auto", head)
    assert (choice.kind, choice.taps) == (head, ("b",))
    assert set(choice.heads) == {"linear", head}
    assert choose_head(inputs, "last", head).taps == ("c",)


def test_a_requested_linear_head_is_not_compared_with_others(tmp_path: Path, targets: np.ndarray) -> None:
    store = write_store(tmp_path, {"a": _quarters(targets, 0)}, targets)
    choice = choose_head(prepare_head_inputs(store, TrainHeadParams()), "auto", "linear")
    assert (choice.kind, dict(choice.heads)) == ("linear", {})


@pytest.mark.parametrize("head", ["linear", "mlp", "cosine"])
def test_a_requested_penalty_holds_for_every_head(tmp_path: Path, targets: np.ndarray, head: str) -> None:
    store = write_store(tmp_path, {"a": noisy_tap(targets, 1.0, 0)}, targets)
    assert choose_head(
        prepare_head_inputs(store, TrainHeadParams(l2=0.02)), "auto", head
    ).cross_validated.penalties == (0.02,)


def _knowing(folder: Path, n: int) -> FeatureStore:
    """Few images, many features, and a source that knows which of these matter."""
    targets = np.arange(n) % 2
    tap = np.random.default_rng(0).normal(0, 1, (n, 60)).astype(np.float32)
    tap[:, :3] += 1.2 * (2 * targets[:, None] - 1)
    store = write_store(folder, {"a": tap[:, 30:], "b": tap}, targets)
    rows = np.zeros((3, 60), np.float32)
    rows[0, :3], rows[1, :3] = -1.2, 1.2
    (folder / "backbone").mkdir()
    SourceClassifier((("c0",), ("c1",), ("other",)), rows, np.zeros(3, np.float32)).save(folder / "backbone")
    return store


def test_a_head_can_start_from_the_sources_rows(tmp_path: Path) -> None:
    inputs = prepare_head_inputs(_knowing(tmp_path, 48), TrainHeadParams(init="source_labels"))
    choice = choose_head(inputs, "auto", "auto")
    assert (choice.taps, choice.kind) == (("b",), "linear")
    assert choice.start is inputs.start is not None
    gain, error = inputs.compare(inputs.cross_validate(["b"]), choice.cross_validated)
    assert gain > error
    assert "started from the source's output layer, which reads b" in choice.reason
    assert f"better by {gain:.3f}" in choice.reason
    plain = prepare_head_inputs(inputs.store, TrainHeadParams())
    assert plain.start is None
    assert plain.overlap is not None
    assert choose_head(plain, "last", "linear").start is None


@pytest.mark.parametrize(
    ("depth", "head", "line"),
    [
        ("a", "auto", r"reuse_depth='a': with init='source_labels' expected auto, last or b"),
        ("auto", "mlp", r"head='mlp': with init='source_labels' expected auto or linear"),
        ("last", "multi_tap", r"head='multi_tap': with init='source_labels' expected auto or linear"),
    ],
)
def test_what_cannot_start_from_them_is_refused(tmp_path: Path, depth: str, head: str, line: str) -> None:
    inputs = prepare_head_inputs(_knowing(tmp_path, 48), TrainHeadParams(init="source_labels"))
    with pytest.raises(ParamsError, match=line):
        choose_head(inputs, depth, head)
