import numpy as np
import pytest

from graft.continual.forget import forget_images
from graft.core.errors import GraftError
from tests.continual.test_update import weights
from tests.support.experiences import experience, first_model, learn, updated

FIRST, SECOND = experience([0, 1], seed=1), experience([2, 3], seed=2)


def test_the_result_is_a_model_that_never_saw_the_images() -> None:
    """Training, validation and test images of both experiences leave; what is left equals learning without them."""
    gone = {0: np.arange(0, 80, 9), 1: np.arange(3, 80, 11)}
    bundle, state = learn([FIRST, SECOND])
    for data, rows in zip((FIRST, SECOND), gone.values(), strict=True):
        found = forget_images(bundle, state, data.part(np.isin(np.arange(80), rows)))
        bundle, state = found.bundle, found.state
        assert found.error < 1e-12
    never = [
        data.part(~np.isin(np.arange(80), rows)) for data, rows in zip((FIRST, SECOND), gone.values(), strict=True)
    ]
    wanted, kept = learn(never)
    assert weights(bundle).keys() == weights(wanted).keys()
    for label, row in weights(wanted).items():
        np.testing.assert_allclose(weights(bundle)[label], row, atol=1e-6)
    assert bundle.spec.temperature == pytest.approx(wanted.spec.temperature, abs=1e-6)
    assert state.exam is not None
    assert kept.exam is not None
    np.testing.assert_array_equal(state.exam.features, kept.exam.features)
    np.testing.assert_array_equal(state.exam.answers[-1], kept.exam.answers[-1])
    np.testing.assert_allclose(state.memory.statistics.scatter, kept.memory.statistics.scatter, atol=1e-6)
    assert not state.memory.knows(FIRST.ids[gone[0]].tolist()).any()
    assert bundle.abstention is not None
    assert wanted.abstention is not None
    np.testing.assert_allclose(bundle.abstention.detector.means, wanted.abstention.detector.means, atol=1e-6)


def test_a_class_of_which_nothing_is_left_is_gone() -> None:
    bundle, state = learn([FIRST, SECOND])
    found = forget_images(bundle, state, SECOND.part(SECOND.names == "class 3"))
    assert found.bundle.spec.labels == ("class 0", "class 1", "class 2")
    assert found.state.history.experiences[-1].forgotten == found.learnt == 32
    assert found.examined == 16


def test_a_model_goes_on_learning_after_it_has_forgotten() -> None:
    bundle, state = first_model(FIRST)
    found = forget_images(bundle, state, FIRST.part(np.arange(80) < 4))
    later = updated(found.bundle, found.state, SECOND)
    again = updated(later.bundle, later.state, FIRST.part(np.arange(80) < 4))
    assert again.known_before == 0
    direct = learn([FIRST, SECOND])[1]
    np.testing.assert_allclose(again.state.memory.statistics.scatter, direct.memory.statistics.scatter, atol=1e-6)


def test_what_cannot_be_forgotten_is_refused() -> None:
    bundle, state = first_model(FIRST)
    with pytest.raises(GraftError, match="80 of 80 images were never learnt"):
        forget_images(bundle, state, SECOND)
    with pytest.raises(GraftError, match="fewer than two classes would be left"):
        forget_images(bundle, state, FIRST.part(FIRST.names == "class 1"))
    other = experience([0, 1], seed=1, shift=0.5)
    with pytest.raises(GraftError, match="not those that were learnt"):
        forget_images(bundle, state, other)
    tuned = bundle.spec.model_copy(update={"trained_groups": ("features.1",)})
    with pytest.raises(GraftError, match=r"features\.1 of the backbone were trained on the images: no statistics undo"):
        forget_images(type(bundle)(tuned, bundle.classifier), state, FIRST)
