"""Mixtures of two images, and their loss."""

import pytest
import torch
import torch.nn.functional as F

from graft.training.mixup import Mixture


def test_inputs_are_mixed_with_the_share_of_the_partner() -> None:
    torch.manual_seed(0)
    mixture = Mixture(4, 0.4)
    x = torch.arange(8.0).reshape(4, 2)
    torch.testing.assert_close(mixture.of(x), mixture.share * x + (1 - mixture.share) * x[mixture.partner])


def test_the_loss_is_that_of_labels_mixed_alike() -> None:
    torch.manual_seed(1)
    mixture, logits, targets = Mixture(5, 1.0), torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    found = mixture.loss(lambda of: F.cross_entropy(logits, of), targets)
    soft = mixture.share * F.one_hot(targets, 3) + (1 - mixture.share) * F.one_hot(targets[mixture.partner], 3)
    torch.testing.assert_close(found, F.cross_entropy(logits, soft))


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    torch.manual_seed(2)
    shares = torch.tensor([Mixture(1, alpha).share for _ in range(2000)])
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(shares.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.02)
