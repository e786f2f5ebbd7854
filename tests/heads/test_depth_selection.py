"""How much of the backbone to reuse: decided on training images, by paired differences."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graft.backbones.feature_store import FeatureStore
from graft.backbones.pretrained_classifier import SourceClassifier
from graft.core.errors import ParamsError
from graft.heads import depth_selection as reuse_module
from graft.heads.depth_selection import decide, gather, paired, shallowest_of_equals
from graft.heads.linear_probe import CrossValidated
from graft.runs.params import TrainHeadParams
from tests.support.features import noisy_tap, write_store
from tests.support.tasks import of_classes

N = 160


@pytest.fixture
def targets() -> np.ndarray:
    return (np.arange(N) // 2 % 2).astype(np.int64)


def test_the_best_group_is_found_below_the_last(tmp_path: Path, targets: np.ndarray) -> None:
    taps = {"a": noisy_tap(targets, 0.1, 0), "b": noisy_tap(targets, 1.5, 1), "c": noisy_tap(targets, 0.3, 2)}
    reuse = decide(gather(write_store(tmp_path, taps, targets), TrainHeadParams()), "auto", "linear")
    assert reuse.taps == ("b",)
    assert set(reuse.curve) == {"a", "b", "c"}
    assert "least cross-validated log loss" in reuse.reason


def test_of_equals_the_shallower_is_taken(tmp_path: Path, targets: np.ndarray) -> None:
    good = noisy_tap(targets, 1.0, 1)
    taps = {"a": noisy_tap(targets, 0.1, 0), "b": good, "c": good}
    assert decide(gather(write_store(tmp_path, taps, targets), TrainHeadParams()), "auto", "linear").taps == ("b",)


def test_groups_that_know_different_things_are_read_together(tmp_path: Path, targets: np.ndarray) -> None:
    # each of two groups knows one half of the images
    first, second = noisy_tap(targets, 0.0, 0), noisy_tap(targets, 0.0, 1)
    half = np.arange(N) % 2 == 0
    first[half, 0] += 4 * (2 * targets[half] - 1)
    second[~half, 0] += 4 * (2 * targets[~half] - 1)
    evidence = gather(write_store(tmp_path, {"a": first, "b": second}, targets), TrainHeadParams())
    reuse = decide(evidence, "auto", "auto")
    assert reuse.taps == ("a", "b")
    assert "2 groups together" in reuse.reason
    assert reuse.chosen.loss.mean() < min(found.loss.mean() for found in reuse.curve.values())


def test_one_group_is_enough_where_more_add_nothing(tmp_path: Path, targets: np.ndarray) -> None:
    taps = {"a": noisy_tap(targets, 0.0, 0), "b": noisy_tap(targets, 1.5, 1)}
    reuse = decide(gather(write_store(tmp_path, taps, targets), TrainHeadParams()), "auto", "auto")
    assert reuse.taps == ("b",)
    assert "no clear gain" in reuse.reason


@pytest.mark.parametrize(("asked", "taps"), [("last", ("c",)), ("a", ("a",))])
def test_what_is_asked_for_is_taken(tmp_path: Path, targets: np.ndarray, asked: str, taps: tuple[str, ...]) -> None:
    store = write_store(tmp_path, {name: noisy_tap(targets, 1.0, seed) for seed, name in enumerate("abc")}, targets)
    assert decide(gather(store, TrainHeadParams()), asked, "auto").taps == taps


def test_an_unknown_depth_is_refused(tmp_path: Path, targets: np.ndarray) -> None:
    store = write_store(tmp_path, {"a": noisy_tap(targets, 1.0, 0)}, targets)
    with pytest.raises(ParamsError, match=r"train_head.reuse_depth='z': expected auto, last or one of a"):
        decide(gather(store, TrainHeadParams()), "z", "auto")


def test_test_and_validation_images_have_no_say(tmp_path: Path, targets: np.ndarray) -> None:
    taps = {"a": noisy_tap(targets, 0.4, 0), "b": noisy_tap(targets, 0.6, 1)}
    first = decide(gather(write_store(tmp_path / "x", taps, targets), TrainHeadParams()), "auto", "auto")
    held_out = np.arange(N) % 8 >= 6
    spoilt = {name: np.where(held_out[:, None], 1e3, tap).astype(np.float32) for name, tap in taps.items()}
    second = decide(gather(write_store(tmp_path / "y", spoilt, targets), TrainHeadParams()), "auto", "auto")
    assert first.taps == second.taps
    np.testing.assert_array_equal(first.chosen.probabilities, second.chosen.probabilities)


def test_imbalance_weighs_the_classes(tmp_path: Path) -> None:
    targets = (np.arange(N) % 8 == 0).astype(np.int64)
    store = write_store(tmp_path, {"a": noisy_tap(targets, 1.0, 0)}, targets)
    assert gather(store, TrainHeadParams(class_weight="none")).label_weights is None
    weight = gather(store, TrainHeadParams()).label_weights
    assert weight is not None
    assert weight[1] > weight[0]


def test_the_paired_error_is_smaller_than_that_of_either() -> None:
    generator = np.random.default_rng(0)
    hard = generator.exponential(1, 500)
    gain, error = paired(hard + 0.1, hard + generator.normal(0, 0.1, 500))
    assert gain == pytest.approx(0.1, abs=0.02)
    assert error < hard.std() / np.sqrt(500) / 3


def test_equals_by_one_standard_error() -> None:
    targets = np.zeros(100, np.int64)

    def probe(p: np.ndarray) -> CrossValidated:
        return CrossValidated((0.1,), np.stack([p, 1 - p], axis=1)[None], targets, of_classes(2))

    generator = np.random.default_rng(0)
    p = generator.uniform(0.6, 0.9, 100)
    close = np.clip(p + np.where(np.arange(100) % 2, 0.05, -0.052), 0.05, 0.95)
    assert shallowest_of_equals({"a": probe(p - 0.2), "b": probe(close), "c": probe(p)})[0] == "b"


def _quarters(targets: np.ndarray, seed: int) -> np.ndarray:
    """A feature space in which no plane divides the classes."""
    noise = np.random.default_rng(seed).normal(0, 1, (len(targets), 2))
    side = np.where(noise[:, 0] > 0, 1.0, -1.0) * (2 * targets - 1)
    return np.stack([noise[:, 0], np.abs(noise[:, 1]) * side], axis=1).astype(np.float32)


def _loud(targets: np.ndarray, seed: int) -> np.ndarray:
    """Features whose direction tells the class, and whose length nothing."""
    generator = np.random.default_rng(seed)
    tap = generator.normal(0, 1, (len(targets), 30))
    tap[:, :4] += 2 * targets[:, None] - 1
    return (tap * np.exp(generator.normal(0, 1.5, (len(targets), 1)))).astype(np.float32)


@pytest.mark.parametrize(("made", "kind"), [(_quarters, "mlp"), (_loud, "cosine")])
def test_another_kind_of_head_is_taken_where_it_is_clearly_better(
    tmp_path: Path, made: Callable[[np.ndarray, int], np.ndarray], kind: str
) -> None:
    targets = (np.arange(400) // 2 % 2).astype(np.int64)
    reuse = decide(gather(write_store(tmp_path, {"a": made(targets, 0)}, targets), TrainHeadParams()), "auto", "auto")
    assert reuse.kind == kind
    assert set(reuse.heads) == {"linear", "mlp", "cosine"}
    gain, error = paired(reuse.heads["linear"].loss, reuse.chosen.loss)
    assert gain > error
    assert f"{kind} head: log loss {reuse.chosen.loss.mean():.3f} against" in reuse.reason


def test_very_many_images_are_not_all_needed_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse_module, "MOST_COMPARED", 150)
    targets = (np.arange(600) // 2 % 2).astype(np.int64)
    evidence = gather(write_store(tmp_path, {"a": _quarters(targets, 0)}, targets), TrainHeadParams())
    part = evidence.some(150)
    assert len(part.rows) == len(part.targets) == 150
    held = np.concatenate([out for _, out in part.folds])
    assert sorted(held) == list(range(150))
    for (train, out), (whole, _) in zip(part.folds, evidence.folds, strict=True):
        assert not set(train) & set(out)
        assert set(part.rows[train]) <= set(evidence.rows[whole])
    reuse = decide(evidence, "auto", "auto")
    assert reuse.kind == "mlp"
    assert "on 150 images" in reuse.reason
    assert len(reuse.heads["mlp"].targets) == 150
    assert len(reuse.chosen.targets) == len(evidence.rows)
    assert len(decide(evidence, "auto", "mlp").heads["linear"].targets) == len(evidence.rows)


def test_a_linear_head_is_enough_where_no_other_is_clearly_better(tmp_path: Path, targets: np.ndarray) -> None:
    # how far an image is from the middle tells how sure to be, which an angle does not see
    taps = {"a": noisy_tap(targets, 0.0, 0, width=2), "b": noisy_tap(targets, 0.8, 1, width=2)}
    reuse = decide(gather(write_store(tmp_path, taps, targets), TrainHeadParams()), "auto", "auto")
    assert (reuse.kind, reuse.taps) == ("linear", ("b",))
    assert reuse.chosen is reuse.heads["linear"]
    assert "head: log loss" in reuse.reason


@pytest.mark.parametrize("head", ["mlp", "cosine"])
def test_a_kind_that_is_asked_for_is_taken_on_the_groups_that_are_best(
    tmp_path: Path, targets: np.ndarray, head: str
) -> None:
    taps = {"a": noisy_tap(targets, 0.1, 0), "b": noisy_tap(targets, 1.5, 1), "c": noisy_tap(targets, 0.3, 2)}
    evidence = gather(write_store(tmp_path, taps, targets), TrainHeadParams())
    reuse = decide(evidence, "auto", head)
    assert (reuse.kind, reuse.taps) == (head, ("b",))
    assert set(reuse.heads) == {"linear", head}
    assert decide(evidence, "last", head).taps == ("c",)


def test_a_linear_head_that_is_asked_for_is_compared_with_no_other(tmp_path: Path, targets: np.ndarray) -> None:
    store = write_store(tmp_path, {"a": _quarters(targets, 0)}, targets)
    reuse = decide(gather(store, TrainHeadParams()), "auto", "linear")
    assert (reuse.kind, dict(reuse.heads)) == ("linear", {})


@pytest.mark.parametrize("head", ["linear", "mlp", "cosine"])
def test_a_penalty_that_is_asked_for_is_every_heads(tmp_path: Path, targets: np.ndarray, head: str) -> None:
    store = write_store(tmp_path, {"a": noisy_tap(targets, 1.0, 0)}, targets)
    assert decide(gather(store, TrainHeadParams(l2=0.02)), "auto", head).chosen.penalties == (0.02,)


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
    evidence = gather(_knowing(tmp_path, 48), TrainHeadParams(init="source_labels"))
    reuse = decide(evidence, "auto", "auto")
    assert (reuse.taps, reuse.kind) == (("b",), "linear")
    assert reuse.start is evidence.start is not None
    gain, error = paired(reuse.curve["b"].loss, reuse.chosen.loss)
    assert gain > error
    assert "started from the source's labels, which are read from b" in reuse.reason
    assert f"better by {gain:.3f}" in reuse.reason
    plain = gather(evidence.store, TrainHeadParams())
    assert plain.start is None
    assert plain.overlap is not None
    assert decide(plain, "last", "linear").start is None


@pytest.mark.parametrize(
    ("depth", "head", "line"),
    [
        ("a", "auto", r"reuse_depth='a': with init='source_labels' expected auto, last or b"),
        ("auto", "mlp", r"head='mlp': with init='source_labels' expected auto or linear"),
        ("last", "multi_tap", r"head='multi_tap': with init='source_labels' expected auto or linear"),
    ],
)
def test_what_cannot_start_from_them_is_refused(tmp_path: Path, depth: str, head: str, line: str) -> None:
    evidence = gather(_knowing(tmp_path, 48), TrainHeadParams(init="source_labels"))
    with pytest.raises(ParamsError, match=line):
        decide(evidence, depth, head)
