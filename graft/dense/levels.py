"""The levels of a backbone: the last group at each resolution, whose maps a decoder reads."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import fx, nn

from graft.backbones.backbone import Backbone
from graft.core.errors import ModelError

STRIDES = (4, 8, 16, 32)
POOLS = ("AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "SelectAdaptivePool2d")
FUNCTIONS = (F.adaptive_avg_pool2d, torch.flatten)
NECK = "neck"
"""The group after the trunk: a wide layer for the classes of the source task."""


@dataclass(frozen=True)
class Level:
    """One map of a backbone."""

    group: str
    channels: int
    side: int
    """Positions along each side."""


def find_levels(backbone: Backbone, size: int | None = None) -> tuple[Level, ...]:
    """Return the last group at each stride of 4 to 32 pixels, the finest first.

    Args:
        backbone: the network.
        size: side of the square that is tried; None: that of its transform.

    Raises:
        ModelError: if the backbone has no maps of several resolutions.
    """
    spec = backbone.spec
    pixels = size or spec.transform.size
    found: dict[int, Level] = {}
    x = torch.zeros(1, spec.transform.channels, pixels, pixels, device=next(backbone.parameters()).device)
    with torch.inference_mode():
        for name, group in zip(spec.groups, backbone.groups, strict=True):
            shown = before_pooling(group)(x)
            x = group(x)
            if shown.ndim == 4 and name != NECK:
                _, channels, side, _ = as_map(shown, spec.channels_last).shape
                stride = round(pixels / side)
                if stride in STRIDES:
                    found[stride] = Level(name, channels, side)
    if len(found) < 2:
        raise ModelError(
            f"extract_features.backbone={spec.architecture}: its features have one resolution, and a decoder needs "
            "several; choose a network such as tf_efficientnet_lite0, resnet50, convnext_tiny or swin_t"
        )
    return tuple(found[stride] for stride in sorted(found))


def as_map(activation: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """Return an activation as (B, C, H, W)."""
    return activation.permute(0, 3, 1, 2) if channels_last else activation


def before_pooling(group: nn.Module) -> nn.Module:
    """Return a group without the pooling and flattening at its end, sharing its layers; itself if it has none.

    Networks pool after their last group, and a step without parameters belongs to the group before it.
    """
    if isinstance(group, nn.Sequential) and len(group) == 2 and next(group[1].parameters(), None) is None:
        return before_pooling(group[0])
    if not isinstance(group, fx.GraphModule):
        return group
    nodes = list(group.graph.nodes)
    end = next((at for at, node in enumerate(nodes) if _pools(group, node)), None)
    if end is None:
        return group
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in nodes[:end]:
        copied[node] = graph.node_copy(node, copied.__getitem__)
    graph.output(copied[nodes[end].args[0]])
    return fx.GraphModule(group, graph)


def _pools(group: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return type(group.get_submodule(str(node.target))).__name__ in POOLS
    return node.op == "call_function" and node.target in FUNCTIONS


class Trunk(nn.Module):
    """A backbone that returns the maps of its levels: normalised float32 (B, C, S, S) to a list of (B, c, h, w)."""

    def __init__(self, backbone: Backbone, groups: tuple[str, ...]) -> None:
        super().__init__()
        self.backbone = backbone
        self.wanted = groups
        last = backbone.groups[backbone.spec.index(groups[-1])]
        cut = before_pooling(last)
        self.unpooled = cut if cut is not last else None
        """The last group without the pooling that its network has merged into it; it shares the group's layers."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the maps, the finest first."""
        maps, spec = [], self.backbone.spec
        for name, group in zip(spec.groups, self.backbone.groups, strict=True):
            last = name == self.wanted[-1]
            x = self.unpooled(x) if last and self.unpooled is not None else group(x)
            if name in self.wanted:
                maps.append(as_map(x, spec.channels_last))
            if last:
                break
        return maps
