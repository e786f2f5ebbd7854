"""Weighted labels and the data's own frequencies: probabilities are calibrated for the data, whatever the weights."""

from pathlib import Path

import numpy as np
import pytest

from graft.heads.depth_selection import choose_head
from graft.heads.full_fit import FullFit, fit_to_all_images
from graft.heads.head_inputs import prepare_head_inputs
from graft.heads.prior_correction import fit_prior_share, prior_shift
from graft.params.train_head import TrainHeadParams
from graft.stats.metrics import balanced_accuracy, ece, log_loss
from graft.tasks.task import Task
from tests.support.features import write_store
from tests.support.tasks import of_classes


def imbalanced(n: int, gap: float, seed: int, d: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Two Gaussian classes, 20 to 1, `gap` standard deviations apart."""
    generator = np.random.default_rng(seed)
    targets = (generator.random(n) < 1 / 21).astype(np.int64)
    features = generator.normal(0, 1, (n, d))
    features[:, 0] += gap * targets
    return features.astype(np.float32), targets


def trained(folder: Path, gap: float, n: int, **params: str) -> tuple[FullFit, Task]:
    features, targets = imbalanced(n, gap, 0)
    inputs = prepare_head_inputs(write_store(folder, {"a": features}, targets), TrainHeadParams(**params))
    return fit_to_all_images(inputs, choose_head(inputs, "auto", "linear")), inputs.task


def test_the_full_shift_turns_equal_shares_into_the_datas() -> None:
    task, targets = of_classes(2), np.repeat([0, 1], [200, 10])
    shift = prior_shift(1.0, targets, task)
    np.testing.assert_allclose(task.probabilities(shift[None])[0], [20 / 21, 1 / 21], atol=1e-6)
    np.testing.assert_allclose(prior_shift(0.5, targets, task), shift / 2)


def test_the_share_is_none_for_probabilities_that_are_right_already() -> None:
    task, targets = of_classes(2), np.repeat([0, 1], [2000, 100])
    right = np.tile(np.log([20 / 21, 1 / 21]), (2100, 1))
    assert fit_prior_share(right, targets, task, targets) == pytest.approx(0.0, abs=0.01)
    assert fit_prior_share(np.zeros((2100, 2)), targets, task, targets) == pytest.approx(1.0, abs=0.01)


def test_at_twenty_to_one_the_probabilities_are_calibrated(tmp_path: Path) -> None:
    found, task = trained(tmp_path, 2.0, 2400)
    assert found.prior_share > 0.7
    tested, truth = imbalanced(20_000, 2.0, 1)
    logits = found.fitted.logits(tested)
    served = task.probabilities(logits, found.temperature)
    uncorrected = task.probabilities(logits - prior_shift(found.prior_share, truth, task), found.temperature)
    exact = np.log([20 / 21, 1 / 21]) + np.stack([np.zeros(len(tested)), 2 * tested[:, 0] - 2], 1)
    best = float(log_loss(truth, task.probabilities(exact))[0])
    assert float(log_loss(truth, served)[0]) < best + 0.01
    assert float(log_loss(truth, uncorrected)[0]) > best + 0.15
    assert float(ece(truth, served)[0]) < 0.015
    # The expected calibration error of the answers hides what the probability of the rare class shows.
    assert abs(served[:, 1].mean() - truth.mean()) < 0.01
    assert uncorrected[:, 1].mean() > 3 * truth.mean()
    # Answers follow the probabilities: most are right, and the rare class is named only where it is likelier.
    assert (served.argmax(1) == truth).mean() > (uncorrected.argmax(1) == truth).mean() + 0.05
    assert 0.55 < float(balanced_accuracy(truth, served)[0]) < float(balanced_accuracy(truth, uncorrected)[0])


def test_classes_that_hardly_overlap_keep_their_balanced_answers(tmp_path: Path) -> None:
    found, task = trained(tmp_path, 6.0, 800)
    tested, truth = imbalanced(20_000, 6.0, 1)
    served = task.probabilities(found.fitted.logits(tested), found.temperature)
    assert float(balanced_accuracy(truth, served)[0]) > 0.97
    assert float(ece(truth, served)[0]) < 0.01


def test_without_weights_nothing_is_corrected(tmp_path: Path) -> None:
    found, _ = trained(tmp_path, 2.0, 2400, class_weight="none")
    assert found.prior_share == 0.0
