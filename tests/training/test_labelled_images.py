"""Images with their targets, and subsets."""

import numpy as np
import torch

from tests.support.tiny_training import labelled


def test_a_subset_of_a_subset_reads_the_right_images() -> None:
    images = labelled(12, 0)
    even = images.subset(np.arange(0, 12, 2))
    two = even.subset(np.array([5, 1]))
    assert len(two) == 2
    assert two.rows.tolist() == [10, 2]
    assert two.targets.tolist() == images.targets[[10, 2]].tolist()
    activation, below = two.batch(np.array([1, 0]), 0)
    expected, _ = images.batch(np.array([2, 10]), 0)
    assert torch.equal(activation, expected)
    assert below == []
