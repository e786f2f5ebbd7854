"""Mixup: a batch of weighted means of two images each, with the loss of both (Zhang et al. 2018).

What is mixed are the inputs of a stage: the images themselves, or their activations after the last frozen group (as in
manifold mixup, Verma et al. 2019), so that cached activations serve every mixture.
"""

from collections.abc import Callable

import torch


class Mixture:
    """A share and a partner for every image of a batch, drawn from torch's global generator."""

    def __init__(self, images: int, alpha: float) -> None:
        """Draw the share of the first image from Beta(alpha, alpha), one for the batch, and a permutation."""
        self.share = float(torch.distributions.Beta(alpha, alpha).sample())
        self.partner = torch.randperm(images)

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """Return values (b, ...), each mixed with its partner's."""
        return torch.lerp(values, values[self.partner.to(values.device)], 1 - self.share)

    def loss(self, loss_of: Callable[[torch.Tensor], torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of the mixed batch, given its loss as a function of targets (b, ...)."""
        other = loss_of(targets[self.partner.to(targets.device)])
        return torch.lerp(other, loss_of(targets), self.share)
