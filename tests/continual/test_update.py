from dataclasses import replace

import numpy as np
import pytest

from graft.continual.forgetting import measure_forgetting
from graft.continual.state import ContinualState, LabelledFeatures, head_logits
from graft.core.errors import GraftError
from graft.models.bundle import ModelBundle
from tests.support.experiences import experience, first_model, learn, updated

PARTS = [experience([0, 1], seed=1), experience([2, 3], seed=2), experience([4], seed=3), experience([0, 5], seed=4)]


def weights(bundle: ModelBundle) -> dict[str, np.ndarray]:
    """Slopes and biases of raw features by class."""
    head = bundle.classifier.head
    scale, mean = head.scale.double().numpy(), head.mean.double().numpy()
    slopes = head.linear.weight.detach().double().numpy() / scale
    biases = head.linear.bias.detach().double().numpy() - slopes @ mean
    return {label: np.append(slopes[at], biases[at]) for at, label in enumerate(bundle.spec.labels)}


def assert_same(one: ModelBundle, other: ModelBundle) -> None:
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    for label in mine:
        np.testing.assert_allclose(mine[label], theirs[label], atol=2e-6)
    assert one.spec.temperature == pytest.approx(other.spec.temperature, rel=1e-4)


@pytest.mark.parametrize("method", ["lda", "ridge", "auto"])
def test_any_order_of_the_updates_gives_the_model_that_learns_all_at_once(method: str) -> None:
    at_once = updated(*first_model(PARTS[0]), LabelledFeatures.concatenated(PARTS[1:]), method=method).bundle
    for order in ([1, 2, 3], [3, 1, 2], [2, 3, 1]):
        one_by_one, _ = learn([PARTS[0], *(PARTS[at] for at in order)], method=method)
        assert_same(one_by_one, at_once)


def test_a_model_that_is_stored_in_between_is_the_same(tmp_path) -> None:
    bundle, state = first_model(PARTS[0])
    for number, data in enumerate(PARTS[1:]):
        found = updated(bundle, state, data)
        found.bundle.save(tmp_path / str(number))
        found.state.save(tmp_path / str(number))
        bundle, state = ModelBundle.load(tmp_path / str(number)), ContinualState.load(tmp_path / str(number))
    in_one_process, kept = learn(PARTS)
    assert {name: value.tolist() for name, value in weights(bundle).items()} == {
        name: value.tolist() for name, value in weights(in_one_process).items()
    }
    np.testing.assert_array_equal(state.memory.statistics.scatter, kept.memory.statistics.scatter)


def test_what_was_learnt_is_kept_where_training_further_forgets() -> None:
    exact, naive = (learn(PARTS, method=method)[1].exam for method in ("auto", "naive"))
    assert exact is not None
    assert naive is not None
    kept, lost = measure_forgetting(exact), measure_forgetting(naive)
    assert kept.acc.value > 0.9
    assert kept.forgetting.value < 0.05
    assert lost.acc.value < kept.acc.value - 0.2
    assert lost.forgetting.low > 0.1
    # Of a class that it has never seen a model knows nothing; a new sight of a known class it partly knows.
    assert kept.matrix[0, 1] == 0
    assert 0.3 < kept.matrix[2, 3] < 0.6


def test_replay_forgets_less_than_nothing_kept() -> None:
    replayed, naive = (learn(PARTS[:2], method=method)[1].exam for method in ("replay", "naive"))
    assert replayed is not None
    assert naive is not None
    assert measure_forgetting(replayed).forgetting.value < measure_forgetting(naive).forgetting.value


def test_old_classes_and_new_are_calibrated_together() -> None:
    found = updated(*first_model(PARTS[0]), experience([2, 3], per_class=200, seed=2))
    bundle, fresh = found.bundle, experience([2, 3], per_class=500, seed=9)
    assert bundle.abstention is not None
    targets = np.array([bundle.spec.labels.index(name) for name in fresh.names])
    decision = bundle.abstention.decide(bundle.probabilities(head_logits(bundle, fresh.features)), fresh.features)
    covered = decision.sets[np.arange(len(targets)), targets].mean()
    assert 0.84 < covered < 0.98
    assert decision.out_of_distribution.mean() < 0.08


def test_images_learnt_before_are_counted_and_not_learnt_twice() -> None:
    bundle, state = first_model(PARTS[0])
    again = LabelledFeatures.concatenated([PARTS[0], PARTS[1]])
    found, alone = updated(bundle, state, again), updated(bundle, state, PARTS[1])
    assert found.known_before == len(PARTS[0])
    assert found.state.history.experiences[-1].known_before == len(PARTS[0])
    assert_same(found.bundle, alone.bundle)


def test_a_model_without_an_exam_learns_and_keeps_none() -> None:
    bundle, state = first_model(PARTS[0], exam=False)
    found = updated(bundle, state, PARTS[1])
    assert found.state.exam is None
    assert found.bundle.abstention is None
    assert np.isnan(found.exam.answers.shape[1] and measure_forgetting(found.exam).matrix[1, 0])
    assert found.after.sum() > 10


@pytest.mark.parametrize(
    ("data", "params", "line"),
    [
        (PARTS[0], {}, "all 80 images were learnt before"),
        (experience([2], per_class=1), {}, "class 'class 2' has fewer than 2 new images"),
        (PARTS[1], {"new_classes": "refuse"}, "new classes 'class 2', 'class 3': update_model.new_classes=refuse"),
    ],
)
def test_what_cannot_be_learnt_is_one_line(data: LabelledFeatures, params: dict[str, object], line: str) -> None:
    with pytest.raises(GraftError) as error:
        updated(*first_model(PARTS[0]), data, **params)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_nearly_known_stops_with_both_names() -> None:
    renamed = replace(PARTS[1], names=np.where(PARTS[1].names == "class 2", "Class_1", "clas 1"))
    model = first_model(PARTS[0])
    with pytest.raises(GraftError, match="class 'Class_1' is nearly the known class 'class 1'"):
        updated(*model, renamed)
    assert updated(*model, renamed, new_classes="allow").new_classes == ("Class_1", "clas 1")


def test_another_backbone_is_refused() -> None:
    bundle, state = first_model(PARTS[0])
    other = replace(state, memory=replace(state.memory, fingerprint="0" * 64))
    with pytest.raises(GraftError, match="another backbone needs a full training"):
        updated(bundle, other, PARTS[1])
