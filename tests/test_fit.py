"""The training loop: what moves, what is kept, the same numbers every time."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graft.backbone import build
from graft.errors import ModelError
from graft.fit import Labelled, Settings, batches, changed, fit_stage, losses, mean_loss, one_cycle, predict
from graft.head import Classifier, Head, HeadSpec
from graft.plan import Stage

SIZE = 32


class Pixels:
    """Images of two classes that colour tells apart."""

    after = None

    def __init__(self, n: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.targets = np.arange(n) % 2
        self.x = torch.randn(n, 3, SIZE, SIZE, generator=generator)
        self.x[:, 0] += torch.from_numpy(2.0 * self.targets - 1.0)[:, None, None]

    def batch(self, positions: np.ndarray, view: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        return self.x[torch.from_numpy(positions)], []


def _labelled(n: int, seed: int) -> Labelled:
    images = Pixels(n, seed)
    return Labelled(images, images.targets)


@pytest.fixture(scope="module")
def start() -> Classifier:
    torch.manual_seed(0)
    backbone = build("mobilenet_v3_small", "none", image_size=SIZE).truncated("features.2")
    return Classifier(backbone, Head(HeadSpec(taps=("features.2",), features=backbone.spec.widths[-1]), 2)).eval()


STAGE = Stage(("features.2",), epochs=4, lr=0.02)


def _settings(**changes: object) -> Settings:
    given_ = {
        "batch_size": 8,
        "views": 1,
        "layer_decay": 0.7,
        "weight_decay": 0.01,
        "label_smoothing": 0.0,
        "patience": 10,
        "train_norms": True,
        "class_weight": None,
        "seed": 0,
    }
    return Settings(**{**given_, **changes})


def test_a_stage_learns_and_moves_only_what_it_trains(start: Classifier) -> None:
    before = copy.deepcopy(start.state_dict())
    train, val = _labelled(48, 0), _labelled(24, 1)
    fitted = fit_stage(start, STAGE, train, val, _settings())
    assert fitted.best_epoch > 0
    assert mean_loss(fitted.val_logits, val.targets) < mean_loss(predict(start, val), val.targets)
    assert min(fitted.val_loss) == pytest.approx(mean_loss(fitted.val_logits, val.targets))
    assert changed(start.backbone.spec.groups, start, fitted.classifier) == ("features.2",)
    assert all(torch.equal(value, start.state_dict()[name]) for name, value in before.items())
    np.testing.assert_array_equal(predict(fitted.classifier, val), fitted.val_logits)


def test_the_same_seed_gives_the_same_weights(start: Classifier) -> None:
    train, val = _labelled(32, 0), _labelled(16, 1)
    torch.manual_seed(5)
    first = fit_stage(start, STAGE, train, val, _settings()).classifier.state_dict()
    torch.manual_seed(6)
    again = fit_stage(start, STAGE, train, val, _settings()).classifier.state_dict()
    other = fit_stage(start, STAGE, train, val, _settings(seed=1)).classifier.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_start_is_kept_where_no_epoch_is_better(start: Classifier) -> None:
    train, val = _labelled(32, 0), _labelled(16, 1)
    flipped = Labelled(val.images, 1 - val.targets)  # whatever is learnt is wrong there
    learnt = fit_stage(start, STAGE, train, val, _settings()).classifier
    fitted = fit_stage(learnt, STAGE, _labelled(32, 2), flipped, _settings(patience=2))
    if fitted.best_epoch == 0:
        assert all(
            torch.equal(a, b)
            for a, b in zip(learnt.state_dict().values(), fitted.classifier.state_dict().values(), strict=True)
        )
    assert mean_loss(fitted.val_logits, flipped.targets) <= mean_loss(predict(learnt, flipped), flipped.targets)


def test_patience_ends_a_stage_early(start: Classifier) -> None:
    train, val = _labelled(32, 0), _labelled(16, 1)
    flipped = Labelled(val.images, 1 - val.targets)
    long = Stage(STAGE.groups, epochs=30, lr=0.02)
    fitted = fit_stage(start, long, train, flipped, _settings(patience=2))
    assert len(fitted.val_loss) == fitted.best_epoch + 2


def test_a_loss_that_is_no_number_is_told(start: Classifier) -> None:
    broken = _labelled(16, 0)
    broken.images.x[:] = math.nan
    with pytest.raises(ModelError, match=r"the loss is nan in epoch 1 of stage features.2; lower fine_tune.lr"):
        fit_stage(start, STAGE, broken, _labelled(8, 1), _settings())


@given(n=st.integers(1, 200), size=st.integers(1, 64), seed=st.integers(0, 3), epoch=st.integers(1, 5))
def test_batches_are_a_permutation_less_a_rest(n: int, size: int, seed: int, epoch: int) -> None:
    seen = [batch.tolist() for batch in batches(n, size, seed, epoch)]
    flat = [position for batch in seen for position in batch]
    assert len(flat) == len(set(flat))
    assert set(flat) <= set(range(n))
    assert len(flat) == (n - n % size if n >= size else n)
    assert seen == [batch.tolist() for batch in batches(n, size, seed, epoch)]


def test_one_cycle_rises_and_falls() -> None:
    assert one_cycle(0.0) == pytest.approx(0.1)
    assert one_cycle(0.1) == pytest.approx(1.0)
    assert one_cycle(1.0) == pytest.approx(0.0, abs=1e-9)


def test_losses_are_cross_entropies() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(losses(logits, np.array([0, 1])), [np.log1p(np.exp(-2)), np.log(2)], rtol=1e-6)
