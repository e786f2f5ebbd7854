"""A pretrained network without its output layer: an ordered chain of named groups.

For every library and architecture, a backbone is `groups[0], groups[1], ...` applied in order. Freezing, taps, cached
boundaries and truncation are all defined in terms of these groups.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from graft.backbones import weights as sources
from graft.backbones.from_tensors import artifact_tensors, from_tensors
from graft.backbones.input_channels import PRETRAINED, ChannelMap, Stem, inflate_stem, per_channel
from graft.backbones.partition import cut_into_groups, pool
from graft.backbones.pretrained_classifier import NoSource, SourceClassifier
from graft.backbones.pretrained_labels import find_source_classifier
from graft.backbones.weights import Library, WeightsSpec
from graft.core.atomic import read_json, replacing, write_json
from graft.core.boundary import readable
from graft.core.checksums import check_file
from graft.core.errors import ModelError
from graft.imaging.decode import MAX_PIXELS
from graft.imaging.transform import Transform
from graft.imaging.value_range import ValueRange

TENSORS_FILE, SPEC_FILE = "backbone.safetensors", "backbone.json"


class BackboneSpec(BaseModel):
    """Everything needed to rebuild a backbone, except its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    library: Library
    groups: tuple[str, ...]
    """Names of the kept groups, in forward order."""
    widths: tuple[int, ...]
    """Number of pooled features after each group."""
    channels_last: bool
    """Whether activations are (B, H, W, C), as Swin's are."""
    transform: Transform
    weights: WeightsSpec
    stem: Stem = "inflate"
    """How it takes images with other than three channels, see `input_channels`."""

    @property
    def depth(self) -> str:
        """The last group that is reused."""
        return self.groups[-1]

    def index(self, group: str) -> int:
        """Return the position of a group.

        Raises:
            ModelError: for a name that is not a group of this backbone.
        """
        if group not in self.groups:
            raise ModelError(
                f"{group!r} is not a group of {self.architecture}; its groups are {', '.join(self.groups)}"
            )
        return self.groups.index(group)


class Backbone(nn.Module):
    """The chain of groups. Input: normalised float32 (B, C, S, S). Output: pooled features (B, D) of the last group."""

    source: SourceClassifier | NoSource | None = None
    """The output layer that was cut off after the last group; only set by `build_backbone`."""

    def __init__(self, spec: BackboneSpec, groups: Sequence[nn.Module]) -> None:
        super().__init__()
        self.spec = spec
        self.groups = nn.ModuleList(groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the pooled features of the last group, (B, D)."""
        return self.pooled(self.suffix(x))

    def taps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the pooled features after every group, each (B, d_g), in one forward pass."""
        taps = []
        for group in self.groups:
            x = group(x)
            taps.append(self.pooled(x))
        return taps

    def prefix(self, x: torch.Tensor, upto: str) -> torch.Tensor:
        """Return the boundary activation after group `upto`."""
        for group in self.groups[: self.spec.index(upto) + 1]:
            x = group(x)
        return x

    def suffix(self, activation: torch.Tensor, after: str | None = None) -> torch.Tensor:
        """Run the groups after `after` (None: all groups) and return the last activation, not pooled."""
        start = 0 if after is None else self.spec.index(after) + 1
        for group in self.groups[start:]:
            activation = group(activation)
        return activation

    def pooled(self, activation: torch.Tensor) -> torch.Tensor:
        """Average an activation over its positions."""
        return pool(activation, self.spec.channels_last)

    def truncated(self, group: str) -> "Backbone":
        """Return the backbone up to and including `group`; the modules are shared."""
        kept = self.spec.index(group) + 1
        spec = self.spec.model_copy(update={"groups": self.spec.groups[:kept], "widths": self.spec.widths[:kept]})
        return Backbone(spec, list(self.groups)[:kept])

    def fingerprint(self) -> str:
        """Return the sha256 of everything that determines its features: tensors, groups and transform."""
        content = f"{sources.tensors_digest(self.state_dict())} {self.spec.groups} {self.spec.transform!r}"
        if (channels := self.spec.transform.channels) != PRETRAINED:
            content += f" {channels} channels {self.spec.stem}"
        if (values := self.spec.transform.value_range) is not None:
            content += f" values {values}"
        return hashlib.sha256(content.encode()).hexdigest()


def build_backbone(
    architecture: str,
    weights: str = "default",
    *,
    image_size: int | None = None,
    channels: int = PRETRAINED,
    max_pixels: int = MAX_PIXELS,
    value_range: ValueRange | None = None,
    stem: Stem = "inflate",
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    seed: int = 0,
) -> Backbone:
    """Build a backbone in eval mode.

    Args:
        architecture: a torchvision or timm name.
        weights: see `weights.create`.
        image_size: side of the square input in pixels; None for the size that the weights were trained with.
        channels: of the images, see `multichannel.decode`.
        max_pixels: an image with more pixels is refused.
        value_range: what is black and white in wide images.
        stem: how a network for RGB takes other channels.
        mean, std: of the input, one number per channel, if a weights file needs others than the architecture's usual
            ones; for other channels than RGB the usual ones are averaged.
        seed: of the random initialisation if there are no weights.

    Raises:
        ModelError: for an unknown architecture or weights, a size or channels that the architecture cannot take, or
            a number of means that is not the number of channels.
    """
    known = sources.find_architecture(architecture)
    size = image_size or known.transform.size
    for name, values in (("mean", mean), ("std", std)):
        if values and len(values) != channels:
            raise ModelError(f"extract_features.{name}={list(values)}: expected {channels} numbers, one per channel")
    usual = known.transform
    if channels != PRETRAINED:
        averaged = {"mean": per_channel(usual.mean, channels), "std": per_channel(usual.std, channels)}
        usual = usual.model_copy(update={"channels": channels, **averaged})
    chosen = {
        "size": size,
        "max_pixels": max_pixels,
        "value_range": value_range,
        **({"mean": mean} if mean else {}),
        **({"std": std} if std else {}),
    }
    model, weights_spec = sources.create(architecture, weights, seed, size)
    source = find_source_classifier(model, known, weights_spec)  # before the output layer is removed
    transform = usual.model_copy(update=chosen)
    backbone = _from_model(model, architecture, known.library, transform, weights_spec, stem, seed)
    backbone.source = source
    return backbone


def save_backbone(backbone: Backbone, folder: Path) -> None:
    """Write `backbone.json` and `backbone.safetensors` into `folder`, which exists."""
    with replacing(folder / TENSORS_FILE) as temporary:
        tensors = {name: tensor.detach().contiguous() for name, tensor in backbone.state_dict().items()}
        temporary.write_bytes(safetensors.torch.save(tensors))
    write_json(folder / SPEC_FILE, backbone.spec.model_dump(mode="json"))


def load_backbone(folder: Path) -> Backbone:
    """Read a backbone that `save_backbone` wrote; in eval mode.

    Raises:
        ModelError: if the files are missing or do not belong together.
    """
    check_file(folder / SPEC_FILE)
    tensors = artifact_tensors(folder / TENSORS_FILE)
    with readable(folder / SPEC_FILE, "run extract_features again", ModelError):
        spec = BackboneSpec.model_validate(read_json(folder / SPEC_FILE))
    try:
        return from_tensors(lambda: untrained_backbone(spec), tensors)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{folder}: the tensors do not belong to its {SPEC_FILE} ({str(error)[:200]})") from error


def untrained_backbone(spec: BackboneSpec) -> Backbone:
    """Build the backbone that `spec` describes, truncated accordingly, with random weights."""
    model, _ = sources.create(spec.architecture, "none", size=spec.transform.size)
    groups = _groups(model, spec.architecture, spec.transform, spec.stem)
    return Backbone(spec, list(groups.values())[: len(spec.groups)]).eval()


def _from_model(
    model: nn.Module,
    architecture: str,
    library: Library,
    transform: Transform,
    weights: WeightsSpec,
    stem: Stem,
    seed: int = 0,
) -> Backbone:
    channels = transform.channels
    random = torch.Generator().manual_seed(seed) if weights.sha256 is None else None
    groups = _groups(model, architecture, transform, stem, random)
    spec = BackboneSpec(
        architecture=architecture,
        library=library,
        groups=tuple(groups),
        widths=(),
        channels_last=_channels_last(model),
        transform=transform,
        weights=weights,
        stem=stem,
    )
    backbone = Backbone(spec, list(groups.values())).eval()
    device = next(model.parameters()).device
    try:
        with torch.inference_mode():
            taps = backbone.taps(torch.zeros(1, *transform.shape, device=device))
    except (IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        of = f", {channels} channels, stem={stem}" if channels != PRETRAINED else ""
        raise ModelError(
            f"extract_features.image_size={transform.size}{of}: {architecture} cannot take it ({reason})"
        ) from error
    backbone.spec = spec.model_copy(update={"widths": tuple(tap.shape[1] for tap in taps)})
    return backbone


def _groups(
    model: nn.Module, architecture: str, transform: Transform, stem: Stem, random: torch.Generator | None = None
) -> dict[str, nn.Module]:
    """Return the groups of a network by name, without its output layer, with its stem adapted to the channels.

    Args:
        model: changed in place.
        architecture: its name, for messages.
        transform: size and channels of the images.
        stem: how it takes other channels than RGB.
        random: draws an inflated stem's weights if the network has no pretrained ones.
    """
    channels = transform.channels
    model.eval()
    _remove_classifier(model)
    if channels != PRETRAINED and stem == "inflate":
        inflate_stem(model, channels, architecture, random)
    groups = {group.name: group.module for group in cut_into_groups(model, transform.size)}
    if channels != PRETRAINED and stem != "inflate":
        first = next(iter(groups))
        groups[first] = nn.Sequential(ChannelMap(channels, stem), groups[first])
    return groups


def _remove_classifier(model: nn.Module) -> None:
    if hasattr(model, "reset_classifier"):  # timm
        cast(Any, model).reset_classifier(0)
    elif type(model).__name__ == "SqueezeNet":
        # Its output layer is a convolution in front of the pooling.
        model.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1))
    else:
        model.set_submodule(sources.classifier_name(model), nn.Identity())


def _channels_last(model: nn.Module) -> bool:
    layout = getattr(model, "output_fmt", None)
    return layout == "NHWC" if isinstance(layout, str) else type(model).__name__ == "SwinTransformer"
