"""The new output layer, and the classifier it makes of a backbone."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from graft.backbone import Backbone
from graft.probe import Linear


class HeadSpec(BaseModel):
    """Shape of an output layer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["linear"] = "linear"
    taps: tuple[str, ...]
    """Groups whose pooled features it reads, in forward order; the last is where the backbone is cut."""
    features: int
    """Their number together."""


class Head(nn.Module):
    """Standardise the features, then a linear layer: (B, D) to logits (B, C).

    The standardisation is of the training images' frozen features and stays as it is when the layer is trained
    further: it gives every feature the same step size whatever the backbone's scale.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, spec: HeadSpec, n_classes: int) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("mean", torch.zeros(spec.features))
        self.register_buffer("scale", torch.ones(spec.features))
        self.linear = nn.Linear(spec.features, n_classes)

    @classmethod
    def of(cls, probe: Linear, taps: Sequence[str], mean: torch.Tensor, scale: torch.Tensor) -> "Head":
        """Make the layer that computes what `probe` does on features of this mean and scale (standard deviation)."""
        n_classes, n_features = probe.weight.shape
        head = cls(HeadSpec(taps=tuple(taps), features=n_features), n_classes)
        weight, bias = torch.from_numpy(probe.weight), torch.from_numpy(probe.bias)
        mean, scale = mean.double(), scale.double()
        with torch.no_grad():
            head.mean.copy_(mean)
            head.scale.copy_(scale)
            head.linear.weight.copy_(weight * scale)
            head.linear.bias.copy_(bias + weight @ mean)
        return head

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits (B, C) of features (B, D)."""
        logits: torch.Tensor = self.linear((features - self.mean) / self.scale)
        return logits


class Classifier(nn.Module):
    """Backbone and head: normalised float32 (B, 3, S, S) to logits (B, C)."""

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.frozen: frozenset[str] = frozenset()
        """Groups that stay in eval mode, see `plan.apply_freeze`."""
        self.train_norms = True
        """Whether BatchNorm of the other groups adapts its statistics in training."""

    def train(self, mode: bool = True) -> "Classifier":
        """Switch to training, but for what is frozen."""
        super().train(mode)
        for name, group in zip(self.backbone.spec.groups, self.backbone.groups, strict=True):
            if name in self.frozen:
                group.eval()
            elif mode and not self.train_norms:
                for module in group.modules():
                    if isinstance(module, nn.modules.batchnorm._BatchNorm):
                        module.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (B, C)."""
        return self.from_boundary(x)

    def from_boundary(
        self, activation: torch.Tensor, after: str | None = None, below: Sequence[torch.Tensor] = ()
    ) -> torch.Tensor:
        """Return logits from the activation after group `after` (None: from the input).

        Args:
            activation: the boundary activation.
            after: the group it comes after.
            below: pooled features of the head's taps up to and including `after`, in forward order.
        """
        logits: torch.Tensor = self.head(self.features(activation, after, below))
        return logits

    def features(
        self, activation: torch.Tensor, after: str | None = None, below: Sequence[torch.Tensor] = ()
    ) -> torch.Tensor:
        """Return what the head reads, (B, D), from the same arguments as `from_boundary`."""
        spec, wanted = self.backbone.spec, self.head.spec.taps
        start = 0 if after is None else spec.index(after) + 1
        features = list(below)
        for name, group in zip(spec.groups[start:], list(self.backbone.groups)[start:], strict=True):
            activation = group(activation)
            if name in wanted:
                features.append(self.backbone.pooled(activation))
        return features[0] if len(features) == 1 else torch.cat(features, dim=1)
