"""Ridge probes: their closed form is that of fits without the held-out images, and no image predicts itself."""

from typing import Any

import numpy as np
import pytest

from graft.heads import ridge
from graft.heads.cross_validation import cross_validate, make_folds
from graft.heads.ridge import angular_spectrum, linear_spectrum, probe, radial_spectrum
from tests.support.features import blobs
from tests.support.tasks import of_classes
from tests.support.two_flags import TwoFlags


def names(n: int, per_group: int = 1) -> np.ndarray:
    return np.array([f"{i // per_group:05d}" for i in range(n)], dtype=object)


def probed(features: np.ndarray, targets: np.ndarray, groups: np.ndarray, spectrum: Any = linear_spectrum) -> Any:
    folds = make_folds(targets, groups, 5, 0)
    task = of_classes(int(targets.max()) + 1)
    return probe(spectrum(features), targets, task, folds, groups, np.ones(len(targets), bool))


@pytest.mark.parametrize(("n", "d"), [(60, 200), (150, 12)])
def test_left_out_predictions_are_those_of_fits_without_them(n: int, d: int) -> None:
    features, targets = blobs(n, d, 3)
    aim = np.eye(3)[targets] - np.bincount(targets) / n
    spectrum = linear_spectrum(features)
    blocks = np.array_split(np.random.default_rng(0).permutation(n), 5)
    penalty = 0.3 * spectrum.values.mean()
    found = ridge._left_out(spectrum, penalty, aim, spectrum.vectors.T @ aim, blocks)
    z = spectrum.vectors * np.sqrt(spectrum.values)
    for block in blocks:
        rest = np.delete(np.arange(n), block)
        x, y = z[rest], aim[rest]
        centred = x - x.mean(0)
        weight = np.linalg.solve(centred.T @ centred + penalty * np.eye(z.shape[1]), centred.T @ (y - y.mean(0)))
        np.testing.assert_allclose(found[block], (z[block] - x.mean(0)) @ weight + y.mean(0), atol=1e-8)


@pytest.mark.parametrize("spectrum", [linear_spectrum, angular_spectrum, radial_spectrum])
def test_noise_is_predicted_by_chance_although_copies_share_a_group(spectrum: Any) -> None:
    generator = np.random.default_rng(0)
    features = np.repeat(generator.normal(0, 1, (100, 300)), 2, axis=0).astype(np.float32)
    targets = np.repeat(generator.integers(0, 2, 100), 2)
    found = probed(features, targets, names(200, 2), spectrum)
    assert 0.35 < found.correct.mean() < 0.65
    assert found.loss.mean() > 0.65


def test_large_folds_are_divided_between_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ridge, "BLOCK_ROWS", 10)
    groups = names(120, 4)
    folds = make_folds(np.arange(120) // 4 % 2, groups, 3, 0)
    blocks = ridge._blocks(folds, groups)
    assert sorted(np.concatenate(blocks)) == list(range(120))
    assert max(map(len, blocks)) <= 16
    assert len(blocks) >= 9
    of_block = [set(groups[block]) for block in blocks]
    assert sum(map(len, of_block)) == 30, "no group is in two blocks"


def test_probes_rank_features_as_logistic_regression_does() -> None:
    targets = np.arange(200) % 4
    generator = np.random.default_rng(1)
    centres = generator.normal(0, 1, (4, 40))
    taps = [signal * centres[targets] + generator.normal(0, 1, (200, 40)) for signal in (0.1, 0.2, 0.35, 0.5)]
    folds = make_folds(targets, names(200), 5, 0)
    quick = [probed(tap, targets, names(200)).loss.mean() for tap in taps]
    exact = [cross_validate(tap, targets, of_classes(4), folds).loss.mean() for tap in taps]
    assert quick == sorted(quick, reverse=True)
    np.testing.assert_allclose(quick, exact, atol=0.15)


def test_in_single_precision_the_result_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = blobs(200, 30, 5, noise=3.0)
    double = probed(features, targets, names(200))
    monkeypatch.setattr(ridge, "DOUBLE_CELLS", 0)
    single = probed(features, targets, names(200))
    assert single.penalty == double.penalty
    np.testing.assert_allclose(single.loss, double.loss, atol=1e-3)


def test_it_probes_any_task() -> None:
    generator = np.random.default_rng(0)
    flags = generator.integers(0, 2, (160, 2)).astype(np.float32)
    features = np.concatenate([flags + 0.5 * generator.normal(0, 1, (160, 2)), generator.normal(0, 1, (160, 6))], 1)
    task = TwoFlags(labels=("a", "b"))
    folds = make_folds(task.strata(flags), names(160), 4, 0)
    found = probe(linear_spectrum(features), flags, task, folds, names(160), np.ones(160, bool))
    assert found.correct.mean() > 0.6
    assert found.loss.mean() < 2 * np.log(2) - 0.3


def test_stand_ins_see_what_their_kind_does() -> None:
    generator = np.random.default_rng(0)
    targets = np.arange(240) % 2
    x = generator.normal(0, 1, (240, 2))
    quarters = np.stack([x[:, 0], np.abs(x[:, 1]) * np.sign(x[:, 0]) * (2 * targets - 1)], 1)
    assert probed(quarters, targets, names(240), radial_spectrum).loss.mean() < 0.45
    assert probed(quarters, targets, names(240)).loss.mean() > 0.65
    loud = generator.normal(0, 1, (240, 20))
    loud[:, :4] += 2 * targets[:, None] - 1
    loud *= np.exp(generator.normal(0, 1.5, (240, 1)))
    gain = probed(loud, targets, names(240)).loss - probed(loud, targets, names(240), angular_spectrum).loss
    assert gain.mean() > 0.05
