"""An image takes up the answers of its neighbours."""

import numpy as np

from graft.adapt.label_propagation import propagated
from tests.support.features import blobs


def test_a_few_good_answers_spread_over_each_cluster() -> None:
    features, targets = blobs(150, 20, 3)
    start = np.full((150, 3), 1 / 3)
    start[:15] = np.eye(3)[targets[:15]]
    found = propagated((features - features.mean(0)) / features.std(0), start)
    np.testing.assert_allclose(found.sum(1), 1.0)
    assert (found.argmax(1) == targets).mean() > 0.98


def test_few_images_have_fewer_neighbours() -> None:
    features, _ = blobs(4, 5, 2)
    found = propagated(features, np.eye(2)[[0, 1, 0, 1]])
    assert found.shape == (4, 2)
    assert np.isfinite(found).all()
