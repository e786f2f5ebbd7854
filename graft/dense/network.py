"""A backbone under a head that reads its maps: which groups are trained, and what stays as it is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

from torch import nn

from graft.backbones.backbone import Backbone
from graft.dense.levels import Trunk


class DenseNetwork(nn.Module, ABC):
    """The base of networks about pixels; their head is what lies above the backbone."""

    def __init__(self, backbone: Backbone, levels: tuple[str, ...]) -> None:
        super().__init__()
        self.trunk = Trunk(backbone, levels)
        self.trained: frozenset[str] = frozenset()
        """Groups of the backbone that are trained; the others stay in eval mode after every `train()`."""

    @property
    def backbone(self) -> Backbone:
        """The reused part of the pretrained network."""
        return self.trunk.backbone

    @property
    @abstractmethod
    def head(self) -> nn.Module:
        """What lies above the backbone."""

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the head and the trained groups; BatchNorm keeps its statistics everywhere.

        A frozen layer in training mode still moves its statistics, and a few photos per batch are too few for new ones.
        """
        super().train(mode)
        for name, group in zip(self.backbone.spec.groups, self.backbone.groups, strict=True):
            if name not in self.trained:
                group.eval()
            for module in group.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def unfreeze(self, groups: Sequence[str], rate: float, decay: float) -> list[dict[str, object]]:
        """Let the head and some groups of the backbone learn, and nothing else.

        Args:
            groups: of the backbone, from the bottom to the top.
            rate: learning rate of the head and the top group.
            decay: of the rate from each group to the one below.

        Returns:
            The optimiser's groups of parameters.
        """
        self.trained = frozenset(groups)
        modules = dict(zip(self.backbone.spec.groups, self.backbone.groups, strict=True))
        for name, group in modules.items():
            group.requires_grad_(name in self.trained)
        self.head.requires_grad_(True)  # an earlier stage has frozen it
        found: list[dict[str, object]] = [{"params": list(self.head.parameters()), "lr": rate}]
        for depth, name in enumerate(reversed(groups)):
            parameters = list(modules[name].parameters())
            if parameters:
                found.append({"params": parameters, "lr": rate * decay**depth})
        return found

    def freeze(self) -> Self:
        """Let nothing learn any more; return this network in eval mode."""
        self.trained = frozenset()
        self.requires_grad_(False)
        return self.eval()
