"""The head as a torch module, for every kind, and the classifier of backbone and head."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import nn

from graft.backbones.backbone import Backbone
from graft.heads.protocols import FittedHead, Kind


class HeadSpec(BaseModel):
    """Kind and shape of an output layer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = "linear"
    taps: tuple[str, ...]
    """Groups whose pooled features it reads, in forward order; the last is where the backbone is cut."""
    features: int
    """Total number of features of these groups."""
    hidden: int = 0
    """Units of the hidden layer; 0 where there is none."""


class Cosine(nn.Module):
    """The cosine of the angle to each class's weights, times a learnt sharpness: (B, D) to logits (B, C)."""

    def __init__(self, features: int, n_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_classes, features))
        self.sharpness = nn.Parameter(torch.tensor(10.0))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits (B, C) of features (B, D)."""
        return self.sharpness * F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))


Layers = Callable[[HeadSpec, int], tuple[nn.Module, nn.Module]]
LAYERS: Mapping[Kind, Layers] = {
    "linear": lambda spec, n_classes: (nn.Identity(), nn.Linear(spec.features, n_classes)),
    "mlp": lambda spec, n_classes: (
        nn.Sequential(nn.Linear(spec.features, spec.hidden), nn.SiLU()),
        nn.Linear(spec.hidden, n_classes),
    ),
    "cosine": lambda spec, n_classes: (nn.Identity(), Cosine(spec.features, n_classes)),
}
"""From spec and number of classes to the hidden layer and the last layer."""


class Head(nn.Module):
    """Standardise the features, then apply the layers of its kind: (B, D) to logits (B, C).

    The standardisation comes from the training images' frozen features and stays fixed when the layers are trained
    further: it gives every feature the same step size whatever the backbone's scale.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, spec: HeadSpec, n_classes: int) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("mean", torch.zeros(spec.features))
        self.register_buffer("scale", torch.ones(spec.features))
        self.hidden, self.linear = LAYERS[spec.kind](spec, n_classes)

    @classmethod
    def of(cls, fitted: FittedHead, taps: Sequence[str]) -> "Head":
        """Return the head that computes the same as `fitted` on the concatenated features of `taps`."""
        tensors = {name: torch.from_numpy(tensor).float() for name, tensor in fitted.tensors().items()}
        hidden = tensors.get("hidden.0.bias", torch.empty(0))
        spec = HeadSpec(kind=fitted.kind, taps=tuple(taps), features=len(tensors["mean"]), hidden=len(hidden))
        head = cls(spec, len(tensors["linear.weight"]))
        head.load_state_dict(tensors)
        return head

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits (B, C) of features (B, D)."""
        logits: torch.Tensor = self.linear(self.hidden((features - self.mean) / self.scale))
        return logits


class Classifier(nn.Module):
    """Backbone and head: normalised float32 (B, 3, S, S) to logits (B, C)."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        """Join them; the head has a `spec`: a `Head`, or the heads of several tasks (see `task_heads`)."""
        super().__init__()
        self.backbone = backbone
        self.head: Any = head
        self.frozen: frozenset[str] = frozenset()
        """Groups that stay in eval mode, see `freezing.apply_freeze`."""
        self.train_norms = True
        """Whether BatchNorm of the other groups adapts its statistics in training."""

    def train(self, mode: bool = True) -> "Classifier":
        """Switch to training mode, except for frozen groups."""
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
        """Return the head's inputs, (B, D), from the same arguments as `from_boundary`."""
        return tap_features(self.backbone, self.head.spec.taps, activation, after, below)


def tap_features(
    backbone: Backbone,
    taps: Sequence[str],
    activation: torch.Tensor,
    after: str | None = None,
    below: Sequence[torch.Tensor] = (),
) -> torch.Tensor:
    """Return the pooled features of the groups `taps`, (B, D); see `Classifier.from_boundary` for the others."""
    spec = backbone.spec
    start = 0 if after is None else spec.index(after) + 1
    features = list(below)
    for name, group in zip(spec.groups[start:], list(backbone.groups)[start:], strict=True):
        activation = group(activation)
        if name in taps:
            features.append(backbone.pooled(activation))
    return features[0] if len(features) == 1 else torch.cat(features, dim=1)
