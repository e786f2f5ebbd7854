"""Cutting a network into an ordered chain of groups: the unit of reuse, freezing, caching and truncation.

The model's forward pass is traced at the level of its top modules (`torch.fx`), and cut wherever exactly one tensor
crosses. Names are matched against `TRUNK`, first match wins, so that a group is what the architecture's authors call a
layer or a stage (`layer3`, `blocks.5`, `features.7`, `encoder.layers.encoder_layer_11`); the modules before the trunk
are the `stem`, those after it (norm, last projection, pooling) the `neck`. Every parameter must be in exactly one
group, else this raises.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import fx, nn

from graft.core.errors import ModelError

TRUNK = re.compile(
    r"(?:layer\d+|stage\d+|s\d+|inception\d\w|Mixed_\w+"
    r"|(?:features|blocks|stages|layers|levels|network|trunk_output|encoder\.layers)\.[^.]+)"
)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d)


@dataclass(frozen=True)
class Group:
    """One link of the chain: `module` maps the boundary activation before it to the one after it."""

    name: str
    module: nn.Module


def cut_into_groups(model: nn.Module, size: int | None = None) -> list[Group]:
    """Cut a classification network without its classifier into groups, in forward order.

    Args:
        model: maps (B, C, H, W) float32 to (B, D) features; its rotary positions are fixed to `size`.
        size: side of its images in pixels; None: the one that it was built for.

    Raises:
        ModelError: if the forward pass cannot be traced, has no known trunk, or a parameter is in no or two groups.
    """
    _fix_positions(model, size)
    graph = _trace(model)
    nodes = [node for node in graph.nodes if node.op != "output"]
    (output,) = (node for node in graph.nodes if node.op == "output")
    names = _names(model, nodes)
    ends = [
        index
        for index, node in enumerate(nodes)
        if index and _is_cut(nodes, index, output) and (index + 1 == len(nodes) or names[index] != names[index + 1])
    ]
    groups: list[Group] = []
    start = 1  # node 0 is the input
    for end in ends:
        module = _extract(model, nodes[start - 1], nodes[start : end + 1])
        groups.append(Group(names[end], module))
        start = end + 1
    groups = _with_parameters(groups)
    _check_partition(model, groups)
    return groups


class _Positions(nn.Module):
    """Rotary position embeddings of images of one size."""

    embedding: torch.Tensor

    def __init__(self, embedding: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("embedding", embedding)

    def get_embed(self, shape: object = None) -> torch.Tensor:
        """Return them, whatever the shape: see `_fix_positions`."""
        return self.embedding


def _fix_positions(model: nn.Module, size: int | None) -> None:
    """Compute rotary positions (DINOv3) once, so that every block has its own: else no cut has one tensor only."""
    rope: Any = getattr(model, "rope", None)
    if rope is None or not getattr(model, "dynamic_img_size", False) or next(rope.parameters(), None) is not None:
        return
    embed: Any = model.patch_embed
    sides = embed.img_size if size is None else (size, size)
    with torch.no_grad():
        shape = tuple(side // patch for side, patch in zip(sides, embed.patch_size, strict=True))
        model.rope = _Positions(rope.get_embed(shape=shape))


class _TopTracer(fx.Tracer):
    """Traces into containers only: each block stays a module, with its own train and eval behaviour."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        container = type(m) is nn.Sequential or module_qualified_name == "encoder"
        return not container or TRUNK.fullmatch(module_qualified_name) is not None


def _trace(model: nn.Module) -> fx.Graph:
    try:
        # The module helps to eliminate dead code: it knows which calls have side effects.
        traced = fx.GraphModule(model, _TopTracer().trace(model))
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__}: cannot be cut into groups ({' '.join(str(error).split())})"
        ) from error
    traced.graph.eliminate_dead_code()
    _fix_options(traced.graph)
    return traced.graph


def _fix_options(graph: fx.Graph) -> None:
    """Replace every optional argument of the forward pass (for example an attention mask) by its default."""
    _, *options = (node for node in graph.nodes if node.op == "placeholder")
    for option in options:
        defaults = {option: option.args[0] if option.args else None}
        for user in list(option.users):
            user.args, user.kwargs = fx.map_arg((user.args, user.kwargs), partial(_replaced, defaults))
        graph.erase_node(option)


def _replaced(values: Mapping[fx.Node, Any], node: fx.Node) -> Any:
    return values.get(node, node)


def _names(model: nn.Module, nodes: Sequence[fx.Node]) -> list[str]:
    """Return the group each node belongs to."""
    matches = [TRUNK.match(str(node.target)) if node.op == "call_module" else None for node in nodes]
    trunk = [index for index, match in enumerate(matches) if match]
    if not trunk:
        raise ModelError(
            f"{type(model).__name__}: no ordered groups known for this architecture; "
            "choose one whose layers are named like those of ResNet, EfficientNet, ConvNeXt, ViT or Swin"
        )
    names: list[str] = []
    current, after_pool = "stem", True
    for index, node in enumerate(nodes):
        match = matches[index]
        module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        # In networks of bare layers (VGG, AlexNet) a group is the layers between two pooling layers.
        if match and module is not None and (after_pool or next(module.children(), None) is not None):
            current = match.group()
        elif index > trunk[-1] and module is not None and next(module.parameters(), None) is not None:
            current = "neck"
        if module is not None:
            after_pool = isinstance(module, _POOLS)
        names.append(current)
    for index in reversed(range(len(nodes) - 1)):
        if nodes[index].op == "get_attr":  # it belongs to what reads it
            names[index] = names[index + 1]
    return names


def _is_cut(nodes: Sequence[fx.Node], index: int, output: fx.Node) -> bool:
    """Return whether the value of `nodes[index]` is the only one needed after it."""
    later = {*nodes[index + 1 :], output}
    return all(node is nodes[index] or not any(user in later for user in node.users) for node in nodes[: index + 1])


def _extract(model: nn.Module, before: fx.Node, nodes: Sequence[fx.Node]) -> nn.Module:
    """Build the module that computes `nodes` from the value of `before`."""
    if len(nodes) == 1 and nodes[0].op == "call_module" and nodes[0].args == (before,) and not nodes[0].kwargs:
        return model.get_submodule(str(nodes[0].target))
    graph = fx.Graph()
    values = {before: graph.placeholder("activation")}
    for node in nodes:
        values[node] = graph.node_copy(node, lambda old: values[old])
    graph.output(values[nodes[-1]])
    module = fx.GraphModule(model, graph)
    for node in nodes:
        if node.op == "get_attr":
            _own_buffer(module, str(node.target))
    return module


def _own_buffer(module: nn.Module, target: str) -> None:
    """Give a group its own copy of a constant that other groups read too (rotary positions)."""
    owner, _, name = target.rpartition(".")
    place = module.get_submodule(owner)
    if name in place._buffers:
        place.register_buffer(name, getattr(place, name).clone())


def _with_parameters(groups: list[Group]) -> list[Group]:
    """Merge a group without parameters (pooling, flattening) into the one before it."""
    joined: list[Group] = []
    for group in groups:
        if joined and next(group.module.parameters(), None) is None:
            last = joined.pop()
            joined.append(Group(last.name, nn.Sequential(last.module, group.module)))
        else:
            joined.append(group)
    return joined


def _check_partition(model: nn.Module, groups: Sequence[Group]) -> None:
    owners: dict[int, list[str]] = {id(parameter): [] for parameter in model.parameters()}
    for group in groups:
        for parameter in group.module.parameters():
            owners[id(parameter)].append(group.name)
    for name, parameter in model.named_parameters():
        if len(owners[id(parameter)]) != 1:
            raise ModelError(
                f"{type(model).__name__}: parameter {name} is in groups {owners[id(parameter)]}, expected one"
            )


def pool(activation: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """Average a boundary activation over its positions: (B, C, H, W), (B, H, W, C), (B, N, C) or (B, C) -> (B, C)."""
    if activation.ndim == 4:
        return activation.mean((1, 2) if channels_last else (2, 3))
    return activation.mean(1) if activation.ndim == 3 else activation
