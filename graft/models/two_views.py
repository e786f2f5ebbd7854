"""A classifier that looks at an image twice: under the source's BatchNorm statistics and under the target's.

Both passes share all weights but the BatchNorm statistics; each has a head of its own, and the answer is the mean of
their probabilities. It takes the time of two passes.
"""

import copy
import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from graft.backbones.backbone import Backbone
from graft.models.classifier import Classifier, Head, tap_features

Norms = dict[str, torch.Tensor]
"""Running means and variances of all BatchNorm layers, by their names in the backbone's state."""
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class TwoHeads(nn.Module):
    """One head for each half of the features: (B, 2 D) to the logarithms of the mean probabilities (B, C)."""

    def __init__(self, first: Head, second: Head) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.spec = first.spec.model_copy(update={"features": 2 * first.spec.features})

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits (B, C), which need no temperature, of features (B, 2 D)."""
        one, other = features.chunk(2, dim=1)
        logits = torch.stack([self.first(one).log_softmax(dim=1), self.second(other).log_softmax(dim=1)])
        return logits.logsumexp(dim=0) - math.log(2)


class TwoViews(Classifier):
    """Two classifiers as one; only whole images can be given, not activations from within the backbone."""

    head: TwoHeads

    def __init__(self, first: Classifier, second: Classifier) -> None:
        super().__init__(first.backbone, first.head)
        self.head = TwoHeads(first.head, second.head)
        self.second_backbone = second.backbone

    def features(
        self, activation: torch.Tensor, after: str | None = None, below: Sequence[torch.Tensor] = ()
    ) -> torch.Tensor:
        """Return the inputs of both heads, (B, 2 D), of images.

        Raises:
            ValueError: for an activation from within the backbone.
        """
        if after is not None:
            raise ValueError("two views start from the image")
        taps = self.head.spec.taps
        return torch.cat([tap_features(one, taps, activation) for one in (self.backbone, self.second_backbone)], dim=1)


def is_statistic(name: str) -> bool:
    """Return whether a tensor of a backbone's state is a BatchNorm statistic."""
    return name.rpartition(".")[2] in STATISTICS


def norms_of(backbone: nn.Module) -> Norms:
    """Return the BatchNorm statistics of a backbone."""
    return {name: value.clone() for name, value in backbone.state_dict().items() if is_statistic(name)}


def with_norms(backbone: Backbone, norms: Norms) -> Backbone:
    """Return the backbone with other BatchNorm statistics, in eval mode; all weights are shared.

    Raises:
        ValueError: if the statistics are those of another backbone.
    """
    other: Backbone = copy.deepcopy(backbone, memo={id(parameter): parameter for parameter in backbone.parameters()})
    own = norms_of(backbone)
    if own.keys() != norms.keys() or any(own[name].shape != norms[name].shape for name in own):
        raise ValueError(f"BatchNorm statistics of {len(norms)} tensors do not belong to this backbone ({len(own)})")
    other.load_state_dict(norms, strict=False)
    return other.eval()


def has_batch_norm(backbone: nn.Module) -> bool:
    """Return whether a network has a BatchNorm layer with statistics of its own."""
    return any(isinstance(module, _BatchNorm) and module.running_mean is not None for module in backbone.modules())
